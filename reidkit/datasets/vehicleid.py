"""PKU VehicleID (Liu et al., CVPR 2016): one folder of images and lists that name them."""

import re
from pathlib import Path

import numpy as np

from reidkit.datasets.images import image_files
from reidkit.datasets.lists import read_list, require_files
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["VEHICLEID_SIZES", "load_vehicleid"]

VEHICLEID_SIZES = (800, 1600, 2400)
"""Vehicles in the three test lists."""

_LINE = re.compile(r"(\S+)\s+(\d+)")

Entry = tuple[Path, int, int]


def load_vehicleid(root: Path, name: str, *, size: int = 800, draw: int = 0) -> ReIDDataset:
    """Read VehicleID with one of its test lists; a line is `0000001 2343`: an image's name and its vehicle.

    One random image of each test vehicle is the gallery, the others are queries (section 5.1 of the paper); published
    figures are means over 10 draws. Cameras are not known: every image counts as of a camera of its own, which is what
    an unknown camera (-1) means to the evaluation.

    Args:
        root: Folder that holds `image` and `train_test_split`.
        name: What to call the data set.
        size: Vehicles in the test list: 800, 1600 or 2400.
        draw: Seed of the choice of gallery images.

    Raises:
        DataError: A list or the image folder is missing, a line cannot be understood, or an image does not exist.
    """
    if not (root / "image").is_dir():
        raise DataError(f"{root / 'image'} does not exist; VehicleID is the folders image and train_test_split")
    files = {path.stem: path for path in image_files(root / "image")}
    lists = root / "train_test_split"
    query, gallery = _draw_gallery(_read_list(lists / f"test_list_{size}.txt", files), np.random.default_rng(draw))
    return ReIDDataset(
        name,
        root,
        f"VehicleID, test list of {size:,}, gallery draw {draw}",
        make_split(_read_list(lists / "train_list.txt", files), relabel=True),
        make_split(query),
        make_split(gallery),
    )


def _read_list(listing: Path, files: dict[str, Path]) -> list[Entry]:
    """(path, identity, unknown camera) of every line of one list file."""
    rows = read_list(listing, _LINE, "0000001 2343", "VehicleID needs its lists in train_test_split")
    # Lists name images without their suffix.
    entries = [(files.get(Path(file).stem, Path(file)), int(vehicle), UNKNOWN) for file, vehicle in rows]
    require_files(listing, [path for path, *_ in entries], "extract the archive's image folder again, completely")
    return entries


def _draw_gallery(entries: list[Entry], rng: np.random.Generator) -> tuple[list[Entry], list[Entry]]:
    """Queries, and a gallery of one image per identity."""
    images: dict[int, list[Entry]] = {}
    for entry in entries:
        images.setdefault(entry[1], []).append(entry)
    gallery = [images[identity].pop(rng.integers(len(images[identity]))) for identity in sorted(images)]
    return [entry for identity in sorted(images) for entry in images[identity]], gallery
