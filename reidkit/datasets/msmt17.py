"""MSMT17 (Wei et al., CVPR 2018) as its authors ship it: image folders and four list files."""

import os
import re
from pathlib import Path

from reidkit.datasets.image_folder import is_folder
from reidkit.datasets.lists import read_list, require_files
from reidkit.datasets.splits import ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["MSMT17_LISTS", "is_msmt17", "load_msmt17", "msmt17_version"]

MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

_FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
_LINE = re.compile(r"((?:.*/)?[^_/]*_[^_/]*_(0*[1-9]\d{0,16})_[^/]*)\s+(-?\d{1,18})")  # 18 digits fit an int64
_EXAMPLE = "0000/0000_000_01_0303morning_0008_0.jpg 0"
_IMAGE = re.compile(r"\d+_\d+_\d\d_\d{4}(morning|noon|afternoon)_")
_NEEDED = f"MSMT17 needs {', '.join(MSMT17_LISTS)} beside its folders"


def is_msmt17(root: Path) -> bool:
    """Whether a folder holds MSMT17, maybe incompletely: one of its lists, or folders of images with its names."""
    if any((root / listing).is_file() for listing in MSMT17_LISTS):
        return True
    return any(_has_its_names(root / folder) for names in _FOLDERS.values() for folder in names)


def msmt17_version(root: Path) -> str:
    """V1, V2, both or neither, by the folders that are there."""
    found = [version for version, names in _FOLDERS.items() if any((root / name).is_dir() for name in names)]
    return " and ".join(found) or "lists without images"


def load_msmt17(root: Path, name: str = "msmt17") -> ReIDDataset:
    """Read MSMT17 V1 or V2; training is train + val, the 32,621 images that published figures use.

    A line of a list is `0000/0000_000_01_0303morning_0008_0.jpg 0`: a path below the split's folder and the identity
    (which comes from the list, not from the folder). The third field of the file's name is the camera, 01 to 15. Query
    and gallery number their identities independently of training.

    Raises:
        DataError: A list, folder or image is missing, both versions are mixed, or a line cannot be understood.
    """
    version = _version(root)
    _require_lists(root, version)
    train_folder, test_folder = (root / folder for folder in _FOLDERS[version])
    folders = (train_folder, train_folder, test_folder, test_folder)
    train, validation, query, gallery = (
        _read_list(root / listing, folder) for listing, folder in zip(MSMT17_LISTS, folders, strict=True)
    )
    return ReIDDataset(
        name,
        root,
        f"{version}, train + val",
        make_split([*train, *validation], relabel=True),
        make_split(query),
        make_split(gallery),
        comparable=False,
    )


def _version(root: Path) -> str:
    """V1 or V2, by the folders that are there."""
    present = {version: [name for name in names if (root / name).is_dir()] for version, names in _FOLDERS.items()}
    found = [version for version, names in present.items() if names]
    if len(found) != 1:
        mixed = ", ".join(name for names in present.values() for name in names)
        problem = f"holds folders of both V1 and V2 ({mixed})" if found else "has no image folders"
        remedy = (
            "keep one of them, with the lists of the same archive" if found else "extract the images beside the lists"
        )
        raise DataError(
            f"{root} {problem}; MSMT17 is either {' and '.join(_FOLDERS['V1'])} (V1) or "
            f"{' and '.join(_FOLDERS['V2'])} (V2), and results differ between them: {remedy}"
        )
    missing = set(_FOLDERS[found[0]]) - set(present[found[0]])
    if missing:
        raise DataError(
            f"{root} has {present[found[0]][0]} but not {missing.pop()}; MSMT17 {found[0]} needs both folders: extract "
            "the archive again, completely"
        )
    return found[0]


def _require_lists(root: Path, version: str) -> None:
    missing = [listing for listing in MSMT17_LISTS if not (root / listing).is_file()]
    if missing:
        train, test = _FOLDERS[version]
        raise DataError(
            f"{root} holds images of MSMT17 {version} but not {', '.join(missing)}; the lists say who is on which "
            f"image and which images are for training: put the lists of the same archive beside {train} and {test}, or "
            f"name {root / train} to take its images without labels"
        )


def _has_its_names(folder: Path) -> bool:
    """Whether an image below a split's folder, one per identity, is named as MSMT17 names them."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        identity = next((entry.path for entry in entries if is_folder(entry) and entry.name.isdigit()), None)
    return identity is not None and any(_IMAGE.match(name) for name in os.listdir(identity))


def _read_list(listing: Path, folder: Path) -> list[tuple[Path, int, int]]:
    """(path, identity, 0-based camera) of every line of one list file."""
    rows = read_list(listing, _LINE, _EXAMPLE, _NEEDED)
    entries = [(folder / relative, int(identity), int(camera) - 1) for relative, camera, identity in rows]
    require_files(
        listing,
        [path for path, *_ in entries],
        "the list and the images are of different versions (V1 and V2 have different lists), or the archive is not "
        "fully extracted: take lists and images from one archive",
    )
    return entries
