"""Images by what a user types: folders, globs, lists, data sets and files."""

import csv
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from reidkit.datasets import IMAGE_SUFFIXES, UNKNOWN, ReIDDataset, Split, load_dataset
from reidkit.errors import DataError
from reidkit.inference.pixels import printable

__all__ = ["SPLITS", "find_images"]

SPLITS = ("train", "query", "gallery")
Rows = list[tuple[Path, int, int]]


def find_images(
    targets: Sequence[str],
    *,
    splits: Sequence[str] = SPLITS,
    data_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Find images by what a user typed, in this order and each once.

    Args:
        targets: An image; a folder, with all below it (one in the layout of a data set: its images, identities and
            cameras); a list, `.txt` with a path on each line or `.csv` with a column `path`, relative to the list's
            folder; a table or name of a data set, as `load_dataset` takes it; or a glob, in which `**` is any folders.
        splits: Of data sets: `train`, `query`, `gallery`. Folders of plain images have no splits and are taken whole.
        data_root: Folder of the data sets.
        progress: Called with (done, total) while a synthetic set is generated.

    Returns:
        N absolute paths, identities (N,) and cameras (N,), of which -1 is unknown. Those of different data sets differ,
        and so do the identities of training and test images.

    Raises:
        DataError: Something was not found, is of no known kind, or holds no images.
    """
    rows: Rows = []
    for target in targets:
        try:
            listed = _list_files(target)
        except (OSError, csv.Error) as error:
            raise DataError(f"the list {printable(target)} cannot be read ({error}); name another one") from error
        if listed is None:
            found = _dataset_rows(load_dataset(target, data_root, progress=progress), splits)
        else:
            found = [(path, UNKNOWN, UNKNOWN) for path in listed]
        if not found:
            raise DataError(f"{printable(target)} names no images ({', '.join(splits)}); name another one, or --split")
        rows += _beside(rows, found)
    unique = {os.path.abspath(path): (identity, camera) for path, identity, camera in reversed(rows)}
    paths = list(reversed(unique))
    identities, cameras = np.array([unique[path] for path in paths], dtype=np.int64).reshape(-1, 2).T.copy()
    return Split(tuple(map(Path, paths)), identities, cameras)


def _list_files(target: str) -> list[Path] | None:
    """The images of a file, a list or a glob; None for a data set."""
    path, suffix = Path(target), Path(target).suffix.lower()
    if path.is_file():
        if suffix in IMAGE_SUFFIXES:
            return [path]
        if suffix not in (".txt", ".csv"):
            return None
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = _column(path, file) if suffix == ".csv" else [line.rstrip("\r\n") for line in file]
        return None if names is None else [path.parent / name for name in names if name.strip()]
    if path.is_dir() or not glob.has_magic(target):
        return None
    matches = (Path(name) for name in sorted(glob.glob(target, recursive=True)))
    images = [match for match in matches if match.suffix.lower() in IMAGE_SUFFIXES and match.is_file()]
    if not images:
        raise DataError(f"no image ({', '.join(sorted(IMAGE_SUFFIXES))}) matches {printable(target)}; mend the glob")
    return images


def _column(path: Path, file: TextIO) -> list[str] | None:
    """The column `path` of a table; None if it has splits too, and is a data set."""
    rows = csv.DictReader(file)
    names = rows.fieldnames or []
    if "split" in names:
        return None
    if "path" not in names:
        raise DataError(f"{path} has no column `path` (found: {', '.join(names) or 'nothing'}); name it so")
    return [row["path"] or "" for row in rows]


def _dataset_rows(dataset: ReIDDataset, splits: Sequence[str]) -> Rows:
    """The images of splits, each with an identity that no other split's person has.

    Training identities are counted from 0 when a data set is loaded, those of query and gallery are as in the files.
    The identities of distractors are unknown.
    """
    tested = [split for split in (dataset.query, dataset.gallery) if len(split)]
    offset = max((int(split.identities.max()) for split in tested), default=UNKNOWN) + 1
    if not tested and (dataset.train.identities == UNKNOWN).all():
        splits = ("train",)
    rows: Rows = []
    for name in splits:
        split: Split = getattr(dataset, name)
        known = split.identities >= 0 if name == "train" else dataset.is_person(split.identities)
        identities = np.where(known, split.identities + (offset if name == "train" else 0), UNKNOWN)
        rows += zip(split.paths, identities.tolist(), split.cameras.tolist(), strict=True)
    return rows


def _beside(rows: Rows, found: Rows) -> Rows:
    """Found images with identities and cameras that none of the earlier rows has."""
    identity = max((row[1] for row in rows), default=UNKNOWN) + 1
    camera = max((row[2] for row in rows), default=UNKNOWN) + 1
    return [(path, i if i < 0 else i + identity, c if c < 0 else c + camera) for path, i, c in found]
