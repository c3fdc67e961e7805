import os
import sys
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import load_dataset
from reidkit.datasets.lmdb import entry_status, is_entry, load_lmdb, open_entry
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
        with open_entry(path) as file:
            contents.append(file.read())
    assert contents == [ENTRIES[key] for key in sorted(KEYS)]
    assert all(is_entry(path) and path.parent == root / "data.mdb" for path in dataset.train.paths)


def test_databases_by_their_path(tmp_path: Path) -> None:
    folder = write(tmp_path / "people", ENTRIES)
    assert load_dataset("people", tmp_path).train.paths == load_lmdb(folder, "x").train.paths
    single = (folder / "data.mdb").rename(tmp_path / "one.LMDB")
    dataset = load_dataset(str(single))
    assert (dataset.name, len(dataset.train), dataset.root) == ("one", 5, single)
    with open_entry(dataset.train.paths[0]) as file:
        assert file.read() == ENTRIES[min(KEYS)]


def test_status_and_files_beside_entries(tmp_path: Path) -> None:
    folder = write(tmp_path, ENTRIES)
    entry = load_lmdb(folder, "x").train.paths[0]
    assert entry_status(entry) == (len(ENTRIES[min(KEYS)]), (folder / "data.mdb").stat().st_mtime_ns)
    (tmp_path / "pictures.mdb").mkdir()
    file = tmp_path / "pictures.mdb" / "a.jpg"  # a folder's name does not make a database
    file.write_bytes(b"bytes")
    assert not is_entry(file)
    assert entry_status(file) == (5, file.stat().st_mtime_ns)
    with open_entry(file) as opened:
        assert opened.read() == b"bytes"
    absent = entry.with_name("absent")
    for look in (open_entry, entry_status):
        with pytest.raises(FileNotFoundError, match="has no entry absent"):
            look(absent)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_forked_process_reads_on(tmp_path: Path) -> None:
    entry = load_lmdb(write(tmp_path, ENTRIES), "x").train.paths[0]
    child = os.fork()
    if child == 0:
        try:
            with open_entry(entry) as file:
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
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"data\.mdb is damaged, or no LMDB \(it does not begin like .*copy it again"):
        load_lmdb(tmp_path, "x")
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        load_lmdb(tmp_path / "absent", "x")


def test_databases_are_read_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library trusts what it reads; only these tests need it, to write."""
    folder = write(tmp_path, ENTRIES)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert len(load_lmdb(folder, "x").train) == len(ENTRIES)
