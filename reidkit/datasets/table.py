"""Custom data as a table: a row per image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.lists import require_files
from reidkit.datasets.splits import JUNK, UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError
from reidkit.storage import read_parquet

__all__ = ["TABLE_KINDS", "load_table"]

TABLE_KINDS = {".csv": "CSV table", ".parquet": "Parquet table"}
"""Suffix, in lower case -> kind of table."""

_SPLITS = ("train", "query", "gallery")
_COLUMNS = (
    "a table needs the columns path and split (train, query or gallery), and may have identity and camera (numbers or "
    "names; empty is unknown)"
)


def load_table(table: Path, name: str) -> ReIDDataset:
    """Read a CSV (UTF-8, with a heading) or Parquet table with the columns path, split, identity and camera.

    Paths are relative to the table's folder. Identities that are whole numbers keep them (-1 in query and gallery is
    junk and left out), others are numbered from 1 in sorted order. Cameras are numbered from 0 in sorted order. Other
    columns are passed over.

    Args:
        table: The file.
        name: Name of the data set.

    Raises:
        DataError: The table cannot be read, lacks a column or a value, or names images that do not exist.
    """
    columns = _read_columns(table)
    splits = [split.strip().lower() for split in columns["split"]]
    for row, (path, split) in enumerate(zip(columns["path"], splits, strict=True), start=1):
        if not path or split not in _SPLITS:
            raise DataError(f"{table}, row {row}: path {path!r}, split {columns['split'][row - 1]!r}; {_COLUMNS}")
    paths = [table.parent / path for path in columns["path"]]
    require_files(table, paths, f"paths are relative to {table.parent}: correct the table or move it")
    identities, cameras = _identities(columns["identity"]), _ranks(columns["camera"])
    entries = list(zip(paths, identities.tolist(), cameras.tolist(), strict=True))
    rows: dict[str, list[tuple[Path, int, int]]] = {split: [] for split in _SPLITS}
    for entry, split, identity in zip(entries, splits, columns["identity"], strict=True):
        if split != "train" and not identity:
            raise DataError(
                f"{table}: the {split} image {entry[0]} has no identity, and evaluation needs one; give it, or write "
                "-1 to leave the image out"
            )
        if split == "train" or entry[1] != JUNK:
            rows[split].append(entry)
    train, query, gallery = (make_split(rows[split], relabel=split == "train") for split in _SPLITS)
    return ReIDDataset(name, table, TABLE_KINDS[table.suffix.lower()], train, query, gallery)


def _read_columns(table: Path) -> dict[str, list[str]]:
    """The four columns as text; a missing identity or camera is empty text."""
    # Arrow takes long to load, and no other kind of data set needs it.
    import pyarrow
    from pyarrow import csv

    wanted = ("path", "split", "identity", "camera")
    try:
        if table.suffix.lower() == ".csv":
            as_text = csv.ConvertOptions(column_types=dict.fromkeys(wanted, pyarrow.string()))
            content = csv.read_csv(table, convert_options=as_text)
        else:
            content = read_parquet(table)
        found = {
            name: content.column(name).cast(pyarrow.string()).to_pylist()
            for name in wanted
            if name in content.column_names
        }
    except UnicodeDecodeError:
        raise DataError(f"{table} holds text that is not UTF-8; {_COLUMNS}") from None
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(f"{table} cannot be read as a table ({error}); {_COLUMNS}") from None
    missing = {"path", "split"} - found.keys()
    if missing or content.num_rows == 0:
        problem = f"has no column {' and no column '.join(sorted(missing))}" if missing else "has no rows"
        raise DataError(f"{table} {problem}; its columns are {', '.join(content.column_names)}, but {_COLUMNS}")
    return {name: [text or "" for text in found.get(name, [""] * content.num_rows)] for name in wanted}


def _identities(texts: list[str]) -> NDArray[np.int64]:
    """Whole numbers as they are, names by their rank from 1, for 0 and -1 mean something; unknown is -1."""
    numbers = [_whole(text) for text in texts]
    if None not in numbers:
        return np.array(numbers, dtype=np.int64)
    ranks = _ranks(texts)
    return np.where(ranks == UNKNOWN, UNKNOWN, ranks + 1)


def _ranks(texts: list[str]) -> NDArray[np.int64]:
    """The rank of each value among the different ones, by number if all are whole numbers; unknown stays -1."""
    numbers = [_whole(text) for text in texts]
    # No array of text: one long name would lengthen all others.
    values: list[Any] = texts if None in numbers else numbers
    known = sorted({*values} - {"", str(UNKNOWN), UNKNOWN})
    ranks = {value: rank for rank, value in enumerate(known)}
    return np.array([ranks.get(value, UNKNOWN) for value in values], dtype=np.int64)


def _whole(text: str) -> int | None:
    """The whole number that a text writes, -1 if it is empty or negative; None if it is something else.

    Also 3.0 is one: columns of numbers with gaps are often stored so.
    """
    try:
        number = int(text.removesuffix(".0") or UNKNOWN)
    except ValueError:
        return None
    return max(number, UNKNOWN) if number <= np.iinfo(np.int64).max else None
