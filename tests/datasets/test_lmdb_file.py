"""The reader of LMDB files against LMDB itself, and against files that would end or stop a process that trusts them."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import lmdb
import pytest

from reidkit.datasets.lmdb import entry_status, load_lmdb, open_entry
from reidkit.datasets.lmdb_file import DamagedError, LMDBFile
from reidkit.errors import DataError
from tests.datasets.test_lmdb import jpeg

PAGE = 4096
MAIN = 16 + 24 + 48  # where a meta page tells of the database
FLAGS, ENTRIES, ROOT, LAST, AGE = MAIN + 4, MAIN + 32, MAIN + 40, MAIN + 48, MAIN + 56
Change = Callable[["Image"], object]


class Image:
    """A database of two levels, to be damaged."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.meta = max((0, PAGE), key=lambda start: self.get(start + AGE, "Q"))
        self.root = self.get(self.meta + ROOT, "Q") * PAGE
        self.leaf = self.child(0) * PAGE

    def get(self, at: int, kind: str) -> int:
        return int(struct.unpack_from("<" + kind, self.data, at)[0])

    def put(self, at: int, kind: str, *values: int) -> None:
        struct.pack_into("<" + kind, self.data, at, *values)

    def nodes(self, page: int) -> list[int]:
        count = (self.get(page + 12, "H") - 16) // 2
        return [page + self.get(page + 16 + 2 * number, "H") for number in range(count)]

    def child(self, number: int) -> int:
        return self.get(self.nodes(self.root)[number], "I")

    def add_page(self, copied: int, child: int) -> int:
        """A copy of a branch, all of whose children are one page, at the end; its number."""
        number, page = len(self.data) // PAGE, self.data[copied : copied + PAGE]
        self.data += page
        self.put(number * PAGE, "Q", number)
        for node in self.nodes(number * PAGE):
            self.put(node, "HHH", child & 0xFFFF, child >> 16, 0)
        self.put(self.meta + LAST, "Q", number)
        return number


def content(rng: Random, count: int) -> dict[bytes, bytes]:
    """Keys of any bytes and length, values that share a page and that have their own."""
    keys = {rng.randbytes(rng.choice((1, 2, 8, 20, 200, 511))) for _ in range(count)}
    return {key: rng.randbytes(rng.choice((0, 1, 50, 1000, 2050, 4080, 4081, 9000))) for key in keys}


def write(folder: Path, entries: dict[bytes, bytes], removed: int = 0) -> Path:
    with lmdb.open(str(folder), map_size=2**26, lock=False) as environment:
        for part in range(3):
            with environment.begin(write=True) as transaction:
                for key in list(entries)[part::3]:
                    transaction.put(key, entries[key])
        with environment.begin(write=True) as transaction:
            for key in list(entries)[:removed]:
                transaction.delete(key)
    return folder / "data.mdb"


@pytest.mark.parametrize(("count", "removed"), [(0, 0), (1, 0), (1, 1), (3, 0), (60, 20), (4000, 900)])
def test_lmdb_itself_reads_the_same(tmp_path: Path, count: int, removed: int) -> None:
    rng = Random(count)
    entries = content(rng, count)
    database = LMDBFile(write(tmp_path, entries, removed))
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        expected = dict(transaction.cursor())
    assert database.keys() == list(expected)
    places = {key: database.find(key) for key in expected}
    assert {key: database.read(place) for key, place in places.items() if place} == expected
    absent = [*list(entries)[:removed], b"", b"\xff" * 511, *(key + b"\0" for key in expected if len(key) < 500)]
    assert all(database.find(key) is None for key in absent if key not in expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tree of two levels, every eighth image on pages of its own."""
    entries = {b"%04d" % number: jpeg(number % 250) * (1 if number % 8 else 9) for number in range(300)}
    return write(tmp_path_factory.mktemp("whole"), entries).read_bytes()


def loop(image: Image) -> None:
    for node in image.nodes(image.root):
        image.put(node, "HHH", image.root // PAGE, 0, 0)


def same_children(image: Image) -> None:
    """Thirty levels of one page whose children are all the same: 30 pages that stand for more than all atoms."""
    child = image.leaf // PAGE
    for _ in range(28):
        child = image.add_page(image.root, child)
    image.put(image.meta + ROOT, "Q", child)


def long_keys(image: Image) -> None:
    """Every key of a page reaches to its end."""
    for node in image.nodes(image.leaf):
        image.put(node + 6, "H", PAGE - node % PAGE - 8)


DAMAGE: dict[str, tuple[Change, str]] = {
    "page size 0": (lambda image: image.put(40, "I", 0), "pages would have 0"),
    "page size 3": (lambda image: image.put(40, "I", 3), "pages would have 3"),
    "page size 2^31": (lambda image: image.put(40, "I", 2**31), "pages would have 2,147"),
    "two page sizes": (lambda image: image.put(PAGE + 40, "I", 8192), "first two pages"),
    "version": (lambda image: image.put(20, "I", 3), "data version 3"),
    "second page": (lambda image: image.put(PAGE + 16, "I", 0), "first two pages"),
    "flags": (lambda image: image.put(image.meta + FLAGS, "H", 4), "flags 0x4"),
    "last page": (lambda image: image.put(image.meta + LAST, "Q", 2**60), "bytes of"),
    "entries": (lambda image: image.put(image.meta + ENTRIES, "Q", 2**60), "300 entries of 1,152"),
    "root beyond": (lambda image: image.put(image.meta + ROOT, "Q", 2**60), "points to page"),
    "root is a meta page": (lambda image: image.put(image.meta + ROOT, "Q", 1), "points to page 1"),
    "no root": (lambda image: image.put(image.meta + ROOT, "Q", 2**64 - 1), "0 entries of 300"),
    "loop": (loop, "do not form a tree"),
    "same children": (same_children, "do not form a tree"),
    "child beyond": (
        lambda image: image.put(image.nodes(image.root)[0], "HHH", 1, 1, 1),
        "to page 4,295,032,833",
    ),
    "many nodes": (lambda image: image.put(image.leaf + 12, "H", 0xFFFE), "none of its tree"),
    "no nodes": (lambda image: image.put(image.leaf + 12, "H", 16), "none of its tree"),
    "less than none": (lambda image: image.put(image.leaf + 12, "H", 0), "none of its tree"),
    "kind": (lambda image: image.put(image.leaf + 10, "H", 0x22), "none of its tree"),
    "number": (lambda image: image.put(image.leaf, "Q", 7), "none of its tree"),
    "node beyond": (lambda image: image.put(image.leaf + 16, "H", 0xFFFF), "not on it"),
    "node in the header": (lambda image: image.put(image.leaf + 16, "H", 4), "not on it"),
    "key beyond": (lambda image: image.put(image.nodes(image.leaf)[-1] + 6, "H", 0xFFFF), "a key .* beyond its end"),
    "long keys": (long_keys, "lie one upon the other"),
    "order": (lambda image: image.put(image.nodes(image.leaf)[0] + 8, "B", 0xFF), "out of order"),
    "value beyond": (lambda image: image.put(image.nodes(image.leaf)[1], "HH", 0xFFFF, 0xFFFF), "beyond its end"),
    "value on pages beyond": (lambda image: image.put(image.nodes(image.leaf)[0] + 12, "Q", 2**60), "points to page"),
    "value of 4 GiB": (lambda image: image.put(image.nodes(image.leaf)[0], "HH", 0xFFFF, 0xFFFF), "beyond its end"),
    "database in it": (lambda image: image.put(image.nodes(image.leaf)[1] + 4, "H", 2), "database of its own"),
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(tmp_path: Path, whole: bytes, name: str) -> None:
    image, (change, told) = Image(whole), DAMAGE[name]
    change(image)
    (tmp_path / "data.mdb").write_bytes(image.data)
    # Space that takes none: what a size promises costs the one who writes it nothing.
    for size in {len(image.data), *([] if name == "last page" else [2**40])}:
        os.truncate(tmp_path / "data.mdb", size)
        with pytest.raises(DataError, match=rf"is damaged, or no LMDB \(.*{told}"):
            load_lmdb(tmp_path, "x")


def test_a_file_that_ends_early(tmp_path: Path, whole: bytes) -> None:
    for size in (0, 1, 100, 152, PAGE, PAGE + 100, 2 * PAGE, len(whole) - PAGE):
        (tmp_path / "data.mdb").write_bytes(whole[:size])
        with pytest.raises(DataError, match="is damaged, or no LMDB"):
            load_lmdb(tmp_path, "x")


def test_a_file_that_is_cut_or_changed_while_it_is_in_use(tmp_path: Path, whole: bytes) -> None:
    """Mapped into memory it would end the process."""
    (tmp_path / "data.mdb").write_bytes(whole)
    paths, database = load_lmdb(tmp_path, "x").train.paths, LMDBFile(tmp_path / "data.mdb")
    kept = database.find(b"0000")
    assert kept is not None
    os.truncate(tmp_path / "data.mdb", 3 * PAGE)
    for look in (open_entry, entry_status):
        with pytest.raises(OSError, match=r"is damaged \(it has 12,288 bytes"):
            look(paths[0])
    for use in (lambda: database.find(b"0299"), database.keys, lambda: database.read(kept)):
        with pytest.raises(DamagedError, match=r"cut while it was in use|tree"):
            use()


def test_values_that_are_not_where_they_should_be(tmp_path: Path, whole: bytes) -> None:
    image = Image(whole)
    own = image.get(image.nodes(image.leaf)[0] + 12, "Q")
    image.put(own * PAGE + 10, "H", 2)
    (tmp_path / "data.mdb").write_bytes(image.data)
    with pytest.raises(OSError, match=f"page {own} holds no value"):
        open_entry(tmp_path / "data.mdb" / "0000")
    assert open_entry(tmp_path / "data.mdb" / "0001").read() == jpeg(1)


def test_an_image_of_a_gigabyte_is_not_read(tmp_path: Path, whole: bytes) -> None:
    image = Image(whole)
    image.put(image.nodes(image.leaf)[0], "HH", 0, 2**14)
    image.put(image.meta + LAST, "Q", 2**28 - 1)
    (tmp_path / "data.mdb").write_bytes(image.data)
    os.truncate(tmp_path / "data.mdb", 2**40)
    assert entry_status(tmp_path / "data.mdb" / "0000").size == 2**30
    with pytest.raises(OSError, match="an entry has 1,073,741,824 bytes"):
        open_entry(tmp_path / "data.mdb" / "0000")


def test_branches_that_lead_round_in_a_circle(tmp_path: Path, whole: bytes) -> None:
    image = Image(whole)
    loop(image)
    (tmp_path / "data.mdb").write_bytes(image.data)
    with pytest.raises(DamagedError, match="do not form a tree"):
        LMDBFile(tmp_path / "data.mdb").find(b"0001")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.mdb")
    for path in (tmp_path, tmp_path / "data.mdb", Path("/dev/zero")):
        with pytest.raises(OSError, match=r"not a file|Is a directory"):
            LMDBFile(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_lmdb(tmp_path, "x")
