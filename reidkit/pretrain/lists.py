"""Lists of chosen images: as text, and as the published pickle, which is read without running anything in it."""

import io
import json
import logging
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.storage import atomic_write, open_file

__all__ = ["apply_list", "data_folder", "read_list", "read_scores", "relative_names", "write_list", "write_scores"]

logger = logging.getLogger(__name__)

_PICKLES = (".pkl", ".pickle")
_OLD_PROTOCOL = 2  # the newest that Python 2 reads

_INPUTS = b"reidkit.select"  # metadata of the table of scores: what they were computed from


def read_list(path: Path) -> list[str]:
    """Read the names of images, best first.

    A text file (UTF-8) has one name per line. A pickle (`.pkl`, as the lists of TransReID-SSL, arXiv 2111.12084, are
    published; any protocol) holds a list or tuple of text; one that asks for a class or a function is refused.

    Raises:
        DataError: The file is missing, empty or damaged, or a pickle of anything but a list of text.
    """
    try:
        with path.open("rb") as file:
            is_pickle = path.suffix.lower() in _PICKLES or file.peek(1)[:1] == b"\x80"  # which begins no UTF-8 text
            names = _unpickle(path, file) if is_pickle else _read_text(path, file)
    except OSError as error:
        raise DataError(f"the list {path} cannot be read ({error.strerror}); name a .txt or .pkl file") from None
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
        inputs: Facts that the scores depend on; `read_scores` compares them.

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
    """Read the (N,) scores of a table, NaN where the image is unreadable; None if it is of other inputs or damaged."""
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
    """The folder that names in lists are relative to: a data set's `root`, or the folder of a data set's table."""
    return root.parent if root.is_file() else root


def relative_names(paths: Iterable[Path], root: Path) -> list[str]:
    """Names of images as lists have them: paths relative to the data, with `/`, in the order of `paths`.

    Args:
        paths: N image files in or below the data's folder.
        root: The data's folder, or a table in it: a data set's `root`.

    Raises:
        DataError: An image is outside, or its name is not valid Unicode.
    """
    base = data_folder(root)
    folder = "" if base == Path() else os.path.join(base, "")
    names = []
    for path in paths:
        text = os.fspath(path)
        name = text.removeprefix(folder)
        if not text.startswith(folder) or name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"the image {path} is outside {base}; move it there, so that a list can name it")
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the file name {name!r} is not valid Unicode; rename the file")
        names.append(name)
    return names


def apply_list(split: Split, root: Path, names: Sequence[str]) -> Split:
    """The images of a split that a list names, in the order of the split.

    A name is a path relative to the data's folder (or an absolute one inside), else a path whose base name only one
    image has. Names without an image are counted in a warning.

    Args:
        split: N images.
        root: The data's folder, or a table in it: a data set's `root`.
        names: From `read_list`.

    Raises:
        DataError: No image is named.
    """
    base = os.path.abspath(data_folder(root))
    inside = os.path.join(base, "")
    number_of = {name: number for number, name in enumerate(relative_names(split.paths, root))}
    by_base_name: dict[str, int | None] = {}
    for name, number in number_of.items():
        short = name.rpartition("/")[2]
        by_base_name[short] = None if short in by_base_name else number

    kept = np.zeros(len(split), dtype=np.bool_)
    lost: list[str] = []
    for name in names:
        found = number_of.get(name)
        if found is None:
            plain = os.path.normpath(name.replace("\\", "/")).removeprefix(inside)
            found = number_of.get(plain, by_base_name.get(plain.rpartition("/")[2]))
        if found is None:
            lost.append(name)
        else:
            kept[found] = True

    problem = "the list is empty"
    if lost:
        problem = (
            f"{len(lost):,} of {len(names):,} names in the list fit no image of {base} (or several, by base name), for "
            f"instance {lost[0]!r}"
        )
    if not kept.any():
        raise DataError(f"{problem}; no image is left: use the list of this data, with names relative to its folder")
    if lost:
        logger.warning("%s; they are ignored", problem)
    return split.subset(kept)


def _read_text(path: Path, file: BinaryIO) -> list[str]:
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="\n") as lines:
            return [name for line in lines if (name := line.removesuffix("\n").removesuffix("\r")).strip()]
    except UnicodeDecodeError:
        raise DataError(f"the list {path} is neither UTF-8 text nor a pickle; write one name per line") from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of Python's built-in containers, numbers and text; nothing in them is imported or called."""

    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which is code")


def _unpickle(path: Path, file: BinaryIO) -> list[str]:
    problem = ""
    try:
        names = _PlainUnpickler(file, encoding="utf-8").load()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            problem = f"it holds a {type(names).__name__} of other things than text"
    except OSError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in an unpickler
        problem = str(error).partition("\n")[0] or type(error).__name__
    if problem:
        raise DataError(
            f"the list {path} was not read: {problem}. A published list is a pickled list of text and nothing else: "
            "copy or download it again, or ask its author for a text file with one name per line"
        )
    return list(names)
