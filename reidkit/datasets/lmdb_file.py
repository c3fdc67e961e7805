"""The pages of an LMDB file, read one by one, and none of them believed.

LMDB's own library maps the file into memory and trusts what it finds there: a number that is wrong, or a file that is
cut while it is in use, can end the process or keep it busy for ever. Here a page is a copy of some bytes of the file,
every number in it is held against its bounds, and no page is visited twice: the time and memory that reading takes are
bounded by the bytes that are there, whatever they say.

The format is that of LMDB 0.9 (data version 1) on a 64-bit little-endian machine, without named databases: a B+ tree
of pages of one size, two of which, the first, tell where its root is; the newer one counts. What a page of the tree
holds (nodes) lies at the offsets that follow its header: on a branch the number of a page with the smallest key there,
on a leaf a key with its value, or with the first of the pages that hold it.
"""

import os
import stat
import struct
from bisect import bisect_left, bisect_right
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

__all__ = ["DamagedError", "LMDBFile", "Value"]

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = struct.Struct("<16xII16xI44x4xH26xQQQQ")  # magic, version, page size; flags, entries, root; last page, age
_HEADER = struct.Struct("<Q2xHHH")  # number, kind, where the offsets end, where the nodes begin
_NODE = struct.Struct("<HHHH")  # length or page number, in two parts; flags, or its third part; length of the key
_NUMBER = struct.Struct("<Q")
_LEADING = 16  # bytes of a page before its offsets or its value
_BRANCH, _LEAF, _OVERFLOW, _KINDS = 1, 2, 4, 0x2F
_INSIDE, _ELSEWHERE = 0, 1  # flags of a value on the page of its key, and on pages of its own
_NOTHING = 2**64 - 1  # the root of an empty tree
_METAS = 2
_PAGE_SIZES = tuple(2**power for power in range(9, 16))
_DEEPEST = 32  # LMDB's own limit


class DamagedError(Exception):
    """A file is not what it should be; the reason in words."""


class Value(NamedTuple):
    """Where a value lies."""

    start: int
    """Its first byte in the file."""
    length: int
    """Bytes."""
    page: int
    """The first of its own pages; 0: it shares that of its key."""


class _Page(NamedTuple):
    number: int
    is_leaf: bool
    nodes: tuple[int, ...]
    """Offsets of the nodes, by ascending key."""
    data: bytes


class _Branch(NamedTuple):
    keys: list[bytes]
    """The smallest of each child but the first."""
    children: list[int]


class LMDBFile:
    """An LMDB that is only read. Safe on several threads and in forked processes.

    Raises:
        OSError: The file cannot be read, or is none.
        DamagedError: It is no LMDB, of another version, or shorter than it says.
    """

    def __init__(self, path: Path) -> None:
        self._branches: dict[int, _Branch] = {}  # few, and on the way to every key
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "a folder, a pipe or a device, not a file")
        self._page_size = self._read_page_size()
        metas = [self._read_meta(number * self._page_size) for number in range(_METAS)]
        flags, self._entries, self._root, self._last, _ = max(metas, key=lambda meta: meta[-1])
        if flags:
            raise DamagedError(f"its keys are sorted or repeated in a way that is not read, flags {flags:#x}")
        if (self._last + 1) * self._page_size > status.st_size:
            raise DamagedError(f"it has {status.st_size:,} bytes of {(self._last + 1) * self._page_size:,}")

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def keys(self) -> list[bytes]:
        """All keys, ascending, after a look at every page of the tree and at the place of every value.

        Raises:
            OSError: The file cannot be read.
            DamagedError: Something in it is not as it should be.
        """
        keys: list[bytes] = []
        seen: set[int] = set()
        ahead = [] if self._root == _NOTHING else [(self._root, 1)]
        while ahead:
            number, depth = ahead.pop()
            if number in seen or depth > _DEEPEST:
                raise DamagedError(f"its pages do not form a tree: page {number:,} is met again, or too far down")
            seen.add(number)
            page = self._page(number)
            if not page.is_leaf:
                ahead += [(self._child(page, node), depth + 1) for node in reversed(page.nodes)]
                continue
            found = self._keys(page, page.nodes)
            for node in page.nodes:
                self._value(page, node)
            if not all(one < other for one, other in pairwise([*keys[-1:], *found])):
                raise DamagedError(f"the keys on page {number:,} are out of order")
            keys += found
        if len(keys) != self._entries:
            raise DamagedError(f"it has {len(keys):,} entries of {self._entries:,}")
        return keys

    def find(self, key: bytes) -> Value | None:
        """The place of a key's value; None if there is no such key.

        Raises:
            OSError: The file cannot be read.
            DamagedError: A page on the way is not as it should be.
        """
        if self._root == _NOTHING:
            return None
        number = self._root
        for _ in range(_DEEPEST):
            if number not in self._branches:
                page = self._page(number)
                if page.is_leaf:
                    at = bisect_left(page.nodes, key, key=lambda node: self._key(page, node))
                    found = at < len(page.nodes) and self._key(page, page.nodes[at]) == key
                    return self._value(page, page.nodes[at]) if found else None
                # The first node of a branch has no key: what is smaller than the second is there.
                children = [self._child(page, node) for node in page.nodes]
                self._branches[number] = _Branch(self._keys(page, page.nodes[1:]), children)
            branch = self._branches[number]
            number = branch.children[bisect_right(branch.keys, key)]
        raise DamagedError("its pages do not form a tree")

    def read(self, value: Value) -> bytes:
        """The bytes of a value.

        Raises:
            OSError: The file cannot be read.
            DamagedError: They are not there.
        """
        leading = _LEADING if value.page else 0
        data = os.pread(self._descriptor, leading + value.length, value.start - leading)
        if len(data) < leading + value.length:
            raise DamagedError("it was cut while it was in use")
        if value.page:
            number, flags, *_ = _HEADER.unpack_from(data)
            if number != value.page or flags & _KINDS != _OVERFLOW:
                raise DamagedError(f"page {value.page:,} holds no value")
        return data[leading:]

    def _read_page_size(self) -> int:
        data = os.pread(self._descriptor, _META.size, 0)
        magic, version, size, *_ = _META.unpack(data) if len(data) == _META.size else (0, 0, 0)
        if magic != _MAGIC:
            raise DamagedError("it does not begin like an LMDB of a 64-bit little-endian machine")
        if version != _VERSION:
            raise DamagedError(f"it has the data version {version}, and {_VERSION}, that of LMDB 0.9, is read")
        if size not in _PAGE_SIZES:
            raise DamagedError(f"its pages would have {size:,} bytes")
        return int(size)

    def _read_meta(self, start: int) -> tuple[int, ...]:
        """Flags, entries, root, last page and age that one of the first two pages tells."""
        data = os.pread(self._descriptor, _META.size, start)
        if len(data) == _META.size:
            magic, version, size, *told = _META.unpack(data)
            if (magic, version, size) == (_MAGIC, _VERSION, self._page_size):
                return tuple(told)
        raise DamagedError("one of its first two pages is none of an LMDB")

    def _page(self, number: int) -> _Page:
        """A page of the tree; its nodes begin on it."""
        self._require_page(number)
        data = os.pread(self._descriptor, self._page_size, number * self._page_size)
        if len(data) < self._page_size:
            raise DamagedError("it was cut while it was in use")
        stored, flags, end, begin = _HEADER.unpack_from(data)
        kind, count = flags & _KINDS, (end - _LEADING) // 2
        fits = count >= 1 and end % 2 == 0 and end <= begin <= self._page_size
        if stored != number or kind not in (_BRANCH, _LEAF) or not fits:
            raise DamagedError(f"page {number:,} is none of its tree")
        nodes = struct.unpack_from(f"<{count}H", data, _LEADING)
        if min(nodes) < begin or max(nodes) + _NODE.size > self._page_size:
            raise DamagedError(f"page {number:,} has entries that are not on it")
        return _Page(number, kind == _LEAF, nodes, data)

    def _require_page(self, number: int) -> None:
        if not _METAS <= number <= self._last:
            raise DamagedError(f"it points to page {number:,} of {self._last + 1:,}")

    def _key(self, page: _Page, node: int) -> bytes:
        start = node + _NODE.size
        end = start + _NODE.unpack_from(page.data, node)[3]
        if end > self._page_size:
            raise DamagedError(f"a key on page {page.number:,} reaches beyond its end")
        return page.data[start:end]

    def _keys(self, page: _Page, nodes: tuple[int, ...]) -> list[bytes]:
        keys = [self._key(page, node) for node in nodes]
        if sum(map(len, keys)) > self._page_size:  # they overlap, and would take more memory than the file has bytes
            raise DamagedError(f"the keys on page {page.number:,} lie one upon the other")
        return keys

    def _child(self, page: _Page, node: int) -> int:
        low, middle, high, _ = _NODE.unpack_from(page.data, node)
        return int(low | middle << 16 | high << 32)

    def _value(self, page: _Page, node: int) -> Value:
        low, high, flags, key_length = _NODE.unpack_from(page.data, node)
        length, start = low | high << 16, node + _NODE.size + key_length
        if flags == _INSIDE and start + length <= self._page_size:
            return Value(page.number * self._page_size + start, length, 0)
        if flags == _ELSEWHERE and start + _NUMBER.size <= self._page_size:
            (first,) = _NUMBER.unpack_from(page.data, start)
            self._require_page(first)
            begin = first * self._page_size + _LEADING
            if begin + length <= (self._last + 1) * self._page_size:
                return Value(begin, length, first)
        raise DamagedError(f"an entry on page {page.number:,} reaches beyond its end, or is a database of its own")
