"""PKU VehicleID (Liu et al., CVPR 2016): one folder of images and lists that name them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.image_files import image_files
from reidkit.datasets.lists import read_list, require_files
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["VEHICLEID_DRAWS", "VEHICLEID_SIZES", "load_vehicleid"]

VEHICLEID_SIZES = (800, 1600, 2400)
"""Vehicles in the three test lists."""

VEHICLEID_DRAWS = 10
"""Random galleries over which published figures are means."""

_LINE = re.compile(r"(\S+)\s+(\d{1,18})")  # at most 18 digits, which fit an int64

Entry = tuple[Path, int, int]


def load_vehicleid(root: Path, name: str, *, size: int = 800, draws: int = VEHICLEID_DRAWS) -> ReIDDataset:
    """Read VehicleID with one of its test lists; a line is `0000001 2343`: an image's name and its vehicle.

    One random image of each test vehicle is the gallery, the others are queries, and scores are means over several such
    draws (section 5.1 of the paper): `Split.draws` holds them all, query and gallery are the first. Cameras are not
    known (-1): the evaluation leaves out no gallery images of the query's camera.

    Args:
        root: Folder that holds `image` and `train_test_split`.
        name: Name of the data set.
        size: Vehicles in the test list: 800, 1600 or 2400.
        draws: Choices of gallery images, T >= 1; draw t has the seed t.

    Raises:
        DataError: A list or the image folder is missing, a line cannot be understood, or an image does not exist.
    """
    if not (root / "image").is_dir():
        raise DataError(f"{root / 'image'} does not exist; VehicleID is the folders image and train_test_split")
    files = {path.stem: path for path in image_files(root / "image")}
    lists = root / "train_test_split"
    train = make_split(_read_list(lists / "train_list.txt", files), relabel=True)
    test = make_split(_read_list(lists / f"test_list_{size}.txt", files))
    galleries = np.stack([_draw_gallery(test.identities, draw) for draw in range(draws)], axis=1)
    test = replace(test, draws=galleries)
    version = f"VehicleID, test list of {size:,}, {draws} gallery draws"
    return ReIDDataset(name, root, version, train, test.subset(~galleries[:, 0]), test.subset(galleries[:, 0]))


def _read_list(listing: Path, files: dict[str, Path]) -> list[Entry]:
    """(path, identity, unknown camera) of every line of one list file."""
    rows = read_list(listing, _LINE, "0000001 2343", "VehicleID needs its lists in train_test_split")
    # Lists name images without their suffix.
    entries = [(files.get(Path(file).stem, Path(file)), int(vehicle), UNKNOWN) for file, vehicle in rows]
    require_files(listing, [path for path, *_ in entries], "extract the archive's image folder again, completely")
    return entries


def _draw_gallery(identities: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """(N,) a gallery of one random image per identity."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(identities), dtype=np.bool_)
    order = np.argsort(identities, kind="stable")
    _, first, counts = np.unique(identities[order], return_index=True, return_counts=True)
    chosen[order[first + rng.integers(counts)]] = True
    return chosen
