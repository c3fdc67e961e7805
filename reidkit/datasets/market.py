"""The Market-1501 layout: three folders, identity and camera in every file name."""

import re
from collections.abc import Sequence
from pathlib import Path

from reidkit.datasets.image_files import image_files
from reidkit.datasets.splits import JUNK, UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["MARKET_FOLDERS", "load_market"]

MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
"""Training, query and gallery."""

_NAME = re.compile(r"(-?\d{1,18})(?=[_.])(?:_c(\d{1,18})(?!\d))?")  # at most 18 digits, which fit an int64


def load_market(
    root: Path,
    name: str,
    version: str = "Market-1501 layout",
    *,
    folders: tuple[str, str, str] = MARKET_FOLDERS,
    cameras: tuple[int, ...] | None = None,
    comparable: bool = True,
) -> ReIDDataset:
    """Read a folder in Market-1501 layout: `0002_c1s1_000451_03.jpg` is identity 2 at camera 1.

    Junk (identity -1) leaves the gallery; distractors (identity 0) stay. Names without `_c<number>` have an unknown
    camera; training names without an identity are unlabelled. Where both the query and the gallery folder are absent,
    both splits are empty.

    Args:
        root: Folder that holds `folders`.
        name: Name of the data set.
        version: Release or layout, in words.
        folders: Names of the training, query and gallery folder.
        cameras: The camera numbers of this release, which become 0, 1, ...; None takes any, counted from 0 or 1.
        comparable: Whether an identity has the same number in all folders.

    Raises:
        DataError: A folder is missing or empty, a query or gallery name has no identity, or a camera is not in
            `cameras`.
    """
    unlabelled = not any((root / folder).is_dir() for folder in folders[1:])
    rows = [_read_folder(root / folder, folders) for folder in folders[: 1 if unlabelled else 3]]
    numbers = {camera for entries in rows for *_, camera in entries if camera is not None}
    # Some sets count cameras from 0, Market-1501 from 1: inside the program they all count from 0.
    offset = min(1, min(numbers, default=0))
    order = {number: number - offset for number in numbers}
    if cameras is not None:
        order = _numbered(root, version, numbers, cameras)
    train, query, gallery = (
        [(path, identity, UNKNOWN if camera is None else order[camera]) for path, identity, camera in entries]
        for entries in [*rows, [], []][:3]
    )
    for folder, entries in zip(folders[1:], (query, gallery), strict=True):
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
        comparable,
    )


def _numbered(root: Path, version: str, found: set[int], published: Sequence[int]) -> dict[int, int]:
    """Published camera number -> 0-based camera."""
    strange = sorted(found - set(published))
    if strange:
        raise DataError(
            f"{root} has images of camera {', '.join(map(str, strange))}, but {version} has the cameras "
            f"{', '.join(map(str, published))} only: this is another release, or two are mixed, and results differ; "
            "keep one, and load another release by its path"
        )
    return {number: camera for camera, number in enumerate(published)}


def _read_folder(folder: Path, folders: Sequence[str]) -> list[tuple[Path, int | None, int | None]]:
    """(path, identity, camera) of every image in a folder; None is not in the name."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; this layout has the folders {', '.join(folders)}")
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no images (.jpg, .jpeg, .png, .bmp)")
    entries = []
    for path in files:
        match = _NAME.match(path.name)
        identity, camera = match.groups() if match else (None, None)
        entries.append((path, None if identity is None else int(identity), None if camera is None else int(camera)))
    return entries
