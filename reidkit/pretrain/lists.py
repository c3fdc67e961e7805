"""Lists of chosen images: as text, and as the published pickle, which is read without running anything in it."""

import json
import logging
import os
import pickle
import pickletools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.storage import atomic_write, open_file

__all__ = ["apply_list", "data_folder", "read_list", "read_scores", "relative_names", "write_list", "write_scores"]

logger = logging.getLogger(__name__)

_PICKLES = (".pkl", ".pickle")
_LARGEST = 2**30  # bytes of a list file; LUPerson's 4.2 million names take a quarter of it
_OLD_PROTOCOL = 2  # the newest that Python 2 reads

_INPUTS = b"reidkit.select"  # where the table of scores says what they were computed from
_AMBIGUOUS = ""  # in place of a path: several images have the base name


def read_list(path: Path) -> list[str]:
    """Read the names of images, best first.

    A text file (UTF-8) has one name per line. A pickle (`.pkl`, as the lists of TransReID-SSL, arXiv 2111.12084, are
    published; protocols 0 to 5) holds a list or tuple of text; reading it runs nothing and builds nothing else.

    Raises:
        DataError: The file is missing, empty, damaged, over 1 GiB, or a pickle of anything but a list of text.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise DataError(
                f"{path} has {size:,} bytes, and a list of images at most {_LARGEST:,}; is it one? Split it otherwise"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the list {path} cannot be read ({error.strerror}); name a .txt or .pkl file") from None
    is_pickle = path.suffix.lower() in _PICKLES or data.startswith(b"\x80")  # which begins no UTF-8 text
    names = _unpickle(path, data) if is_pickle else _read_text(path, data)
    if not names:
        raise DataError(f"the list {path} names no images; write at least one name into it")
    return names


def write_list(path: Path, names: Sequence[str]) -> None:
    """Write names, best first: `.pkl` as the published pickle (a list of str, protocol 2), all else as text lines.

    Raises:
        DataError: A name of a text list holds a line break.
        RunError: The file cannot be written.
    """
    if path.suffix.lower() in _PICKLES:
        data = pickle.dumps(list(names), protocol=_OLD_PROTOCOL)
    else:
        broken = next((name for name in names if "\n" in name or "\r" in name), None)
        if broken is not None:
            raise DataError(
                f"the name {broken!r} holds a line break, which a text list cannot; rename the file, or write a .pkl"
            )
        data = "".join(f"{name}\n" for name in names).encode()
    with atomic_write(path) as file:
        file.write(data)


def write_scores(
    path: Path,
    names: Sequence[str],
    scores: NDArray[np.float32],
    order: NDArray[np.int64],
    kept: int,
    inputs: Mapping[str, Any],
) -> None:
    """Write the scores of all images as a Parquet table: name, score (null if unreadable), rank (from 1), kept.

    Args:
        path: The file.
        names: N names; the table's rows have their order.
        scores: (N,), NaN where the image is unreadable.
        order: (N,) numbers of the images, best first.
        kept: How many of them are kept.
        inputs: What the scores were computed from, for `read_scores`.

    Raises:
        RunError: The file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    columns = {"name": names, "score": pa.array(scores, from_pandas=True), "rank": ranks, "kept": ranks <= kept}
    table = pa.table(columns).replace_schema_metadata({_INPUTS: json.dumps(inputs)})
    with atomic_write(path) as file:
        parquet.write_table(table, file)


def read_scores(path: Path, inputs: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """The (N,) scores of a table of `write_scores`, NaN is unreadable; None if it is not of the same inputs."""
    from pyarrow import parquet

    try:
        with open_file(path) as file:
            stored = (parquet.read_schema(file).metadata or {}).get(_INPUTS)
            if stored is None or json.loads(stored) != inputs:
                return None
            scores: NDArray[np.float32] = parquet.read_table(file, columns=["score"])["score"].to_numpy()
    except Exception:  # absent, or damaged in one of many ways: the new table will replace it
        return None
    return scores if scores.dtype == np.float32 else None


def data_folder(root: Path) -> Path:
    """The folder that names in lists are relative to: a data set's `root`, or where the table that it is lies."""
    return root.parent if root.is_file() else root


def relative_names(paths: Iterable[Path], root: Path) -> list[str]:
    """Names of images as lists have them: paths relative to the data, with `/`, in the order of `paths`.

    Args:
        paths: N image files in or below the data's folder.
        root: The data's folder, or a table that lies in it: a data set's `root`.

    Raises:
        DataError: An image lies elsewhere, or its name is not valid Unicode.
    """
    base = data_folder(root)
    folder = "" if base == Path() else os.path.join(base, "")
    names = []
    for path in paths:
        text = os.fspath(path)
        name = text.removeprefix(folder)
        if not text.startswith(folder) or _leaves(name):
            raise DataError(f"the image {path} lies outside {base}; move it there, so that a list can name it")
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the file name {name!r} is not valid Unicode; rename the file")
        names.append(name)
    return names


def apply_list(split: Split, root: Path, names: Sequence[str]) -> Split:
    """The images of a split that a list names, in the order of the split.

    A name is a path relative to the data (or an absolute one inside), else a base name that just one image has. Names
    without an image are counted in a warning.

    Args:
        split: N images.
        root: The data's folder, or a table that lies in it: a data set's `root`.
        names: From `read_list`.

    Raises:
        DataError: A name leads out of the data's folder, or no image is named.
    """
    base = Path(os.path.abspath(data_folder(root)))
    number_of = {name: number for number, name in enumerate(relative_names(split.paths, root))}
    by_base_name: dict[str, str] = {}
    for name in number_of:
        short = name.rpartition("/")[2]
        by_base_name[short] = _AMBIGUOUS if short in by_base_name else name
    kept = np.zeros(len(split), dtype=np.bool_)
    lost: list[str] = []
    for name in names:
        number = number_of.get(name)
        if number is None:
            inner = _inside(base, name)
            number = number_of.get(inner)
            if number is None:
                number = number_of.get(by_base_name.get(inner.rpartition("/")[2], _AMBIGUOUS))
        if number is None:
            lost.append(name)
        else:
            kept[number] = True
    problem = (
        f"{len(lost):,} of {len(names):,} names in the list fit no image of {base} (or several, by base name), for "
        f"instance {lost[0]!r}"
        if lost
        else "the list is empty"
    )
    if not kept.any():
        raise DataError(f"{problem}; no image is left: use the list of this data, with names relative to its folder")
    if lost:
        logger.warning("%s; they are passed over", problem)
    return split.subset(kept)


def _leaves(name: str) -> bool:
    """Whether a relative name may lead out of its folder."""
    return name.startswith("/") or (".." in name and ".." in name.split("/"))


def _inside(base: Path, name: str) -> str:
    """A listed name as the data has it: relative, with `/` and nothing superfluous."""
    plain = name.replace("\\", "/")
    tidy = os.path.normpath(plain)
    if plain.startswith("/"):
        tidy = tidy.removeprefix(os.path.join(base, ""))
    if ".." in plain.split("/") or tidy.startswith("/"):
        raise DataError(f"the list names {name!r}, which leads out of {base}; remove it or write it relative to there")
    return tidy


def _read_text(path: Path, data: bytes) -> list[str]:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"the list {path} is neither UTF-8 text nor a pickle; write one name per line") from None
    return [name for line in lines if (name := line.removesuffix("\r")).strip()]


def _unpickle(path: Path, data: bytes) -> list[str]:
    try:
        return _TextLists(data).run()
    except UnpicklingError as error:
        raise DataError(
            f"the list {path} was not read: {error}. A published list is a pickled list of text and nothing else; ask "
            "its author for that, or for a text file with one name per line"
        ) from None
    except (IndexError, KeyError, ValueError):  # stack, memo, numbers and text of a file that breaks off or is none
        raise DataError(f"the list {path} is a damaged pickle, or none; copy or download it again") from None


class _TextLists:
    """The part of pickle's stack machine that flat lists of text need (PEP 307, PEP 3154).

    Lists and tuples take nothing but text, so none is nested or holds itself, and no opcode makes anything else: what
    is built is as large as the file, whatever the file says.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> list[str]:
        """The list.

        Raises:
            UnpicklingError: There is anything but a flat list of text.
            IndexError, KeyError, ValueError: The pickle is damaged.
        """
        data, handlers = self.data, _HANDLERS
        while (code := data[self.at]) != _STOP:
            self.at += 1
            handler = handlers.get(code)
            if handler is None:
                raise UnpicklingError(self._describe(code))
            handler(self)
        names = self.stack.pop()
        if type(names) is not list or self.stack:
            raise UnpicklingError(f"it holds a {type(names).__name__}, not a list")
        return names

    def _describe(self, code: int) -> str:
        """What a refused opcode asks for."""
        name = next((op.name for op in pickletools.opcodes if ord(op.code) == code), None)
        if name is None:
            raise ValueError(f"no opcode: {code}")
        if name in ("GLOBAL", "INST"):
            return f"it asks for {f'{self.line().decode()}.{self.line().decode()}'!r}, which is code"
        if name == "STACK_GLOBAL":
            return f"it asks for {f'{self.stack[-2]}.{self.stack[-1]}'!r}, which is code"
        return f"it holds more than text (opcode {name})"

    def take(self, count: int) -> bytes:
        """The next bytes."""
        piece = self.data[self.at : self.at + count]
        if len(piece) < count:
            raise IndexError(count)
        self.at += count
        return piece

    def number(self, width: int) -> int:
        """The next number of so many bytes."""
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        """The bytes up to the next line break."""
        end = self.data.index(b"\n", self.at)
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece

    def text(self, width: int) -> None:
        """Push text, whose length comes first."""
        self.stack.append(self.take(self.number(width)).decode("utf-8", "surrogatepass"))

    def text_line(self) -> None:
        """Push text of protocol 0."""
        self.stack.append(self.line().decode("raw-unicode-escape"))

    def remember(self, key: int) -> None:
        """Note the top of the stack."""
        self.memo[key] = self.stack[-1]

    def since_mark(self) -> list[str]:
        """Pop all above the mark."""
        return self.texts(self.marks.pop())

    def texts(self, start: int) -> list[str]:
        """Pop all from a place of the stack on."""
        items = self.stack[start:]
        if not all(type(item) is str for item in items):
            raise UnpicklingError("a list in it holds other lists")
        del self.stack[start:]
        return items

    def last(self, count: int) -> list[str]:
        """Pop the items of a small tuple."""
        if len(self.stack) < count:
            raise IndexError(count)
        return self.texts(len(self.stack) - count)

    def extend(self, items: list[str]) -> None:
        """Add to the list at the top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("text is no list")
        self.stack[-1].extend(items)


def _handlers() -> dict[int, Callable[[_TextLists], object]]:
    machine = _TextLists
    by_name: dict[str, Callable[[_TextLists], object]] = {
        "PROTO": partial(machine.take, count=1),
        "FRAME": partial(machine.take, count=8),
        "MARK": lambda m: m.marks.append(len(m.stack)),
        "EMPTY_LIST": lambda m: m.stack.append([]),
        "EMPTY_TUPLE": lambda m: m.stack.append([]),
        "LIST": lambda m: m.stack.append(m.since_mark()),
        "TUPLE": lambda m: m.stack.append(m.since_mark()),
        "TUPLE1": lambda m: m.stack.append(m.last(1)),
        "TUPLE2": lambda m: m.stack.append(m.last(2)),
        "TUPLE3": lambda m: m.stack.append(m.last(3)),
        "APPEND": lambda m: m.extend(m.last(1)),
        "APPENDS": lambda m: m.extend(m.since_mark()),
        "UNICODE": machine.text_line,
        **{name: partial(machine.text, width=1) for name in ("SHORT_BINUNICODE", "SHORT_BINSTRING")},
        **{name: partial(machine.text, width=4) for name in ("BINUNICODE", "BINSTRING")},
        "BINUNICODE8": partial(machine.text, width=8),
        "MEMOIZE": lambda m: m.remember(len(m.memo)),
        "BINPUT": lambda m: m.remember(m.number(1)),
        "LONG_BINPUT": lambda m: m.remember(m.number(4)),
        "PUT": lambda m: m.remember(int(m.line())),
        "BINGET": lambda m: m.stack.append(m.memo[m.number(1)]),
        "LONG_BINGET": lambda m: m.stack.append(m.memo[m.number(4)]),
        "GET": lambda m: m.stack.append(m.memo[int(m.line())]),
    }
    return {ord(op.code): by_name[op.name] for op in pickletools.opcodes if op.name in by_name}


_HANDLERS = _handlers()
_STOP = ord(pickle.STOP)
