"""A folder of images about which nothing is known."""

import os
from pathlib import Path

from reidkit.datasets.image_files import image_files
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["is_folder", "is_hidden", "load_plain"]


def load_plain(root: Path, name: str, version: str = "plain folder of images, no labels") -> ReIDDataset:
    """Read all images in and below a folder as unlabelled training images; query and gallery are empty.

    Args:
        root: The folder; hidden folders and archive leftovers in it are passed over.
        name: Name of the data set.
        version: Release or layout, in words.

    Raises:
        DataError: There is no image.
    """
    paths = []
    for folder, below, _ in os.walk(root):
        below[:] = sorted(child for child in below if not is_hidden(child))
        paths += image_files(Path(folder))
    if not paths:
        raise DataError(f"{root} holds no images (.jpg, .jpeg, .png, .bmp)")
    train = make_split([(path, UNKNOWN, UNKNOWN) for path in paths])
    return ReIDDataset(name, root, version, train, make_split([]), make_split([]))


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry of a folder is a folder or a link to one; a link to itself is none, and no error."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_hidden(folder: str) -> bool:
    """Whether a folder of this name is no place for data: `.git`, `__MACOSX` and their like."""
    return folder.startswith((".", "__"))
