"""The Market-1501 layout: three folders, identity and camera in every file name."""

import re
from pathlib import Path

from reidkit.datasets.images import image_files
from reidkit.datasets.splits import JUNK, UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["MARKET_FOLDERS", "load_market"]

MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
"""Training, query and gallery."""

_NAME = re.compile(r"(-?\d+)(?=[_.])(?:_c(\d+))?")


def load_market(root: Path, name: str, version: str = "Market-1501 layout") -> ReIDDataset:
    """Read a folder in Market-1501 layout: `0002_c1s1_000451_03.jpg` is identity 2 at camera 1.

    Junk (identity -1) leaves the gallery; distractors (identity 0) stay. Names without `_c<number>` have an unknown
    camera; training names without an identity are unlabelled.

    Args:
        root: Folder that holds `bounding_box_train`, `query` and `bounding_box_test`.
        name: What to call the data set.
        version: Release or layout, in words.

    Raises:
        DataError: A folder is missing or empty, or a query or gallery name has no identity.
    """
    rows = {folder: _read_folder(root / folder) for folder in MARKET_FOLDERS}
    # Some sets count cameras from 0, Market-1501 from 1: inside the program they all count from 0.
    cameras = [camera for entries in rows.values() for *_, camera in entries if camera is not None]
    offset = min(1, min(cameras, default=0))
    train, query, gallery = (
        [(path, identity, UNKNOWN if camera is None else camera - offset) for path, identity, camera in entries]
        for entries in rows.values()
    )
    for folder, entries in zip(MARKET_FOLDERS[1:], (query, gallery), strict=True):
        unnamed = [path.name for path, identity, _ in entries if identity is None]
        if unnamed:
            raise DataError(
                f"{len(unnamed):,} files in {root / folder} do not begin with an identity, for instance "
                f"{unnamed[0]!r}; evaluation needs names such as 0002_c1s1_000451_03.jpg"
            )
    return ReIDDataset(
        name,
        root,
        version,
        make_split([(path, UNKNOWN if identity is None else identity, c) for path, identity, c in train], relabel=True),
        make_split([(path, identity or 0, camera) for path, identity, camera in query if identity != JUNK]),
        make_split([(path, identity or 0, camera) for path, identity, camera in gallery if identity != JUNK]),
    )


def _read_folder(folder: Path) -> list[tuple[Path, int | None, int | None]]:
    """(path, identity, camera) of every image in a folder; None is not in the name."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; the Market-1501 layout has the folders {', '.join(MARKET_FOLDERS)}")
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no images (.jpg, .jpeg, .png, .bmp)")
    entries = []
    for path in files:
        match = _NAME.match(path.name)
        identity, camera = match.groups() if match else (None, None)
        entries.append((path, None if identity is None else int(identity), None if camera is None else int(camera)))
    return entries
