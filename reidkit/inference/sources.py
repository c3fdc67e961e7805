"""Which images are meant: folders, globs, lists, data sets and files, as they are typed."""

import csv
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import IMAGE_SUFFIXES, ReIDDataset, Split, load_dataset
from reidkit.errors import DataError
from reidkit.inference.pixels import printable

__all__ = ["SPLITS", "find_images"]

SPLITS = ("train", "query", "gallery")
_UNKNOWN = -1


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
        data_root: Where data sets lie.
        progress: Called with (done, total) while a synthetic set is generated.

    Returns:
        N absolute paths, identities (N,) and cameras (N,), of which -1 is unknown. Those of different data sets differ,
        and so do the identities of training and test images.

    Raises:
        DataError: Something was not found, is of no known kind, or holds no images.
    """
    rows: Rows = []
    for target in targets:
        found = _find(target, splits, data_root, progress)
        if not found:
            raise DataError(f"{printable(target)} names no images ({', '.join(splits)}); name another one, or --split")
        rows += _beside(rows, found)
    unique = {os.path.abspath(path): (identity, camera) for path, identity, camera in reversed(rows)}
    paths = list(reversed(unique))
    labels = np.array([unique[path] for path in paths], dtype=np.int64).reshape(-1, 2)
    return Split(tuple(Path(path) for path in paths), labels[:, 0].copy(), labels[:, 1].copy())


def _find(
    target: str, splits: Sequence[str], data_root: Path | None, progress: Callable[[int, int], None] | None
) -> Rows:
    path = Path(target)
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix in IMAGE_SUFFIXES:
            return [(path, _UNKNOWN, _UNKNOWN)]
        try:
            if suffix == ".txt":
                return _unlabelled(_read_text_list(path))
            if suffix == ".csv" and (listed := _read_csv_list(path)) is not None:
                return _unlabelled(listed)
        except (OSError, csv.Error) as error:
            raise DataError(f"the list {printable(target)} cannot be read ({error}); name another one") from error
    elif not path.is_dir() and glob.has_magic(target):
        matches = (Path(name) for name in sorted(glob.glob(target, recursive=True)))
        images = [match for match in matches if match.suffix.lower() in IMAGE_SUFFIXES and match.is_file()]
        if not images:
            raise DataError(
                f"no image ({', '.join(sorted(IMAGE_SUFFIXES))}) matches {printable(target)}; mend the glob"
            )
        return _unlabelled(images)
    return _dataset_rows(load_dataset(target, data_root, progress=progress), splits)


def _unlabelled(paths: Sequence[Path]) -> Rows:
    return [(path, _UNKNOWN, _UNKNOWN) for path in paths]


def _read_text_list(listing: Path) -> list[Path]:
    lines = listing.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    return [listing.parent / line.rstrip("\r") for line in lines if line.strip()]


def _read_csv_list(listing: Path) -> list[Path] | None:
    """The column `path` of a table; None if it has splits too, and is a data set."""
    with listing.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        names = rows.fieldnames or []
        if "split" in names:
            return None
        if "path" not in names:
            raise DataError(f"{listing} has no column `path` (found: {', '.join(names) or 'nothing'}); name it so")
        return [listing.parent / row["path"] for row in rows if row["path"]]


def _dataset_rows(dataset: ReIDDataset, splits: Sequence[str]) -> Rows:
    """The images of splits, each with an identity that no other split's person has.

    Training identities are counted from 0 when a data set is loaded, those of query and gallery are as in the files.
    Of a distractor nothing is known.
    """
    tested = [split for split in (dataset.query, dataset.gallery) if len(split)]
    offset = max((int(split.identities.max()) for split in tested), default=_UNKNOWN) + 1
    if not tested and len(dataset.train) and (dataset.train.identities == _UNKNOWN).all():
        return _split_rows(dataset.train, dataset.train.identities)
    rows: Rows = []
    for name in splits:
        split: Split = getattr(dataset, name)
        known = split.identities >= 0 if name == "train" else dataset.is_person(split.identities)
        rows += _split_rows(split, np.where(known, split.identities + (offset if name == "train" else 0), _UNKNOWN))
    return rows


def _split_rows(split: Split, identities: NDArray[np.int64]) -> Rows:
    return list(zip(split.paths, identities.tolist(), split.cameras.tolist(), strict=True))


def _beside(rows: Rows, found: Rows) -> Rows:
    """Found images with identities and cameras that none of the earlier rows has."""
    identity = max((row[1] for row in rows), default=_UNKNOWN) + 1
    camera = max((row[2] for row in rows), default=_UNKNOWN) + 1
    return [(path, i if i < 0 else i + identity, c if c < 0 else c + camera) for path, i, c in found]
