"""The demonstration set must not be won by plain colour histograms, nor be noise to them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score

from reidkit.synthetic import SyntheticConfig, make_synthetic


class Split(NamedTuple):
    images: list[Image.Image]
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]


def read(folder: Path) -> Split:
    paths = sorted(folder.iterdir())
    images = [Image.open(path).convert("RGB") for path in paths]
    identities = [int(path.name[:4]) for path in paths]
    cameras = [int(path.name[6:].split("s")[0]) for path in paths]
    return Split(images, np.array(identities), np.array(cameras))


def stripes(image: Image.Image, space: str, balanced: bool) -> NDArray[np.float64]:
    """Square roots of joint 4 x 4 x 4 histograms of eight stripes, the middle columns only."""
    pixels = np.asarray(image).astype(float)
    if balanced:
        pixels = np.clip(pixels * pixels.mean() / pixels.mean(axis=(0, 1)), 0, 255)
    pixels = np.asarray(Image.fromarray(pixels.astype(np.uint8)).convert(space))
    width = pixels.shape[1]
    codes = (pixels[:, width // 4 : -width // 4] // 64) @ np.array([1, 4, 16])
    return np.concatenate([np.bincount(part.ravel(), minlength=64) for part in np.array_split(codes, 8)]) ** 0.5


def score(query: Split, gallery: Split, space: str, balanced: bool) -> float:
    """mAP, 0 to 1."""
    first, second = (np.stack([stripes(i, space, balanced) for i in split.images]) for split in (query, gallery))
    precisions = []
    for row, identity, camera in zip(first, query.identities, query.cameras, strict=True):
        kept = (gallery.identities != identity) | (gallery.cameras != camera)
        similarity = (second[kept] * row).sum(axis=1)
        precisions.append(average_precision_score(gallery.identities[kept] == identity, similarity))
    return float(np.mean(precisions))


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, Split]:
    folder = tmp_path_factory.mktemp("honesty") / "set"
    make_synthetic(folder, SyntheticConfig())  # the very set that the README's figures are of
    return read(folder / "query"), read(folder / "bounding_box_test")


@pytest.mark.parametrize("space", ["RGB", "HSV"])
@pytest.mark.parametrize("balanced", [False, True])
def test_histograms_stay_below_40_and_above_chance(splits: tuple[Split, Split], space: str, balanced: bool) -> None:
    query, gallery = splits
    chance = np.mean([(gallery.identities == identity).mean() for identity in query.identities])
    assert 2 * chance < score(query, gallery, space, balanced) < 0.40
