import os
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import load_dataset
from reidkit.datasets.image_files import image_file_status, open_image_file
from reidkit.datasets.lmdb_images import is_entry, load_lmdb
from reidkit.errors import DataError


def jpeg(grey: int) -> bytes:
    data = BytesIO()
    Image.fromarray(np.full((8, 4, 3), grey, dtype=np.uint8)).save(data, format="JPEG")
    return data.getvalue()


def write(folder: Path, entries: dict[bytes, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return folder


# As LUPerson's own script names them, as others do, and names that are no file names.
KEYS = [b"00_00_0000_00000000", b"00_00_0001_00000002", b"a/b c.jpg", b"caf\xc3\xa9\xff.PNG", b"__half"]
ENTRIES = {key: jpeg(20 * number) for number, key in enumerate(KEYS)}


def test_luperson_as_it_is_given_out(tmp_path: Path) -> None:
    root = write(tmp_path / "LUP" / "lmdb_300_30" / "lmdb", {**ENTRIES, b"__keys__": b"x", b"__len__": b"5"})
    (root.parent / "keys.pkl").write_bytes(b"never loaded")
    dataset = load_dataset("luperson", tmp_path)
    assert (dataset.root, dataset.version) == (root, "LUPerson, LMDB")
    assert [len(split) for split in (dataset.train, dataset.query, dataset.gallery)] == [5, 0, 0]
    assert dataset.train.identity_count == dataset.train.camera_count == 0
    contents = []
    for path in dataset.train.paths:
        with open_image_file(path) as file:
            contents.append(file.read())
    assert contents == [ENTRIES[key] for key in sorted(KEYS)]
    assert all(is_entry(path) and path.parent == root / "data.mdb" for path in dataset.train.paths)


def test_databases_by_their_path(tmp_path: Path) -> None:
    folder = write(tmp_path / "people", ENTRIES)
    assert load_dataset("people", tmp_path).train.paths == load_lmdb(folder, "x").train.paths
    single = (folder / "data.mdb").rename(tmp_path / "one.LMDB")
    dataset = load_dataset(str(single))
    assert (dataset.name, len(dataset.train), dataset.root) == ("one", 5, single)
    with open_image_file(dataset.train.paths[0]) as file:
        assert file.read() == ENTRIES[min(KEYS)]


def test_status_and_files_beside_entries(tmp_path: Path) -> None:
    folder = write(tmp_path, ENTRIES)
    entry = load_lmdb(folder, "x").train.paths[0]
    assert image_file_status(entry) == (len(ENTRIES[min(KEYS)]), (folder / "data.mdb").stat().st_mtime_ns)
    (tmp_path / "pictures.mdb").mkdir()
    file = tmp_path / "pictures.mdb" / "a.jpg"  # a folder's name does not make a database
    file.write_bytes(b"bytes")
    assert not is_entry(file)
    assert image_file_status(file) == (5, file.stat().st_mtime_ns)
    with open_image_file(file) as opened:
        assert opened.read() == b"bytes"
    absent = entry.with_name("absent")
    for look in (open_image_file, image_file_status):
        with pytest.raises(FileNotFoundError, match="has no entry absent"):
            look(absent)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_forked_process_reads_on(tmp_path: Path) -> None:
    entry = load_lmdb(write(tmp_path, ENTRIES), "x").train.paths[0]
    child = os.fork()
    if child == 0:
        try:
            with open_image_file(entry) as file:
                os._exit(0 if file.read() == ENTRIES[min(KEYS)] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {b"a.jpg": b"\x80\x04\x95\x05\x00"},
            r"value of b'a\.jpg' is a pickle, .* can run any code\. Write each image",
        ),
        ({b"a.jpg": b"\x93NUMPY raw"}, r"the value of b'a\.jpg' begins with b'\\x93NUMPY raw'"),
        ({b"a.jpg": b""}, "holds no encoded images"),
        ({b"__len__": b"0"}, "holds no images; an LMDB has an image's name as key"),
    ],
)
def test_values_that_are_no_images_are_refused(tmp_path: Path, entries: dict[bytes, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_lmdb(write(tmp_path, entries), "x")


def test_one_damaged_image_is_no_reason_to_refuse(tmp_path: Path) -> None:
    assert len(load_lmdb(write(tmp_path, {b"0.jpg": b"", **ENTRIES}), "x").train) == 6


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    for content in (b"no database" * 1000, b"", jpeg(0)):
        (tmp_path / "data.mdb").write_bytes(content)
        with pytest.raises(DataError, match=r"data\.mdb is damaged, or no LMDB \(.*copy it again, or name another"):
            load_lmdb(tmp_path, "x")
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        load_lmdb(tmp_path / "absent", "x")


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_an_incomplete_copy_is_named(tmp_path: Path, kept: float) -> None:
    """Reading beyond its end would end the process."""
    database = write(tmp_path, {b"%d.jpg" % number: jpeg(number) for number in range(100)}) / "data.mdb"
    size = database.stat().st_size
    os.truncate(database, int(kept * size))
    with pytest.raises(DataError, match=rf"or no LMDB \(it has {int(kept * size):,} bytes of .*copy it again, compl"):
        load_lmdb(tmp_path, "x")


def test_a_database_that_is_replaced_is_opened_again(tmp_path: Path) -> None:
    entry = load_lmdb(write(tmp_path / "a", ENTRIES), "x").train.paths[0]
    write(tmp_path / "b", {**ENTRIES, min(KEYS): jpeg(250)})
    (tmp_path / "b" / "data.mdb").rename(tmp_path / "a" / "data.mdb")
    with open_image_file(entry) as file:
        assert file.read() == jpeg(250)


def test_other_names_of_a_database_and_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", ENTRIES)
    (tmp_path / "link.mdb").symlink_to(tmp_path / "a" / "data.mdb")
    monkeypatch.chdir(tmp_path)
    names = [path.name for path in load_lmdb(tmp_path / "link.mdb", "x").train.paths]
    paths = [Path(base) / name for base in ("a/data.mdb", "link.mdb", tmp_path / "a" / "data.mdb") for name in names]

    def length(path: Path) -> int:
        with open_image_file(path) as file:
            data = file.read()
        assert image_file_status(path).size == len(data)
        return len(data)

    with ThreadPoolExecutor(8) as pool:
        lengths = list(pool.map(length, paths * 20))
    assert lengths == [len(ENTRIES[key]) for key in sorted(KEYS)] * 60


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, ENTRIES)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"data\.mdb needs the package lmdb: pip install 'reidkit\[lmdb\]'"):
        load_lmdb(folder, "x")
