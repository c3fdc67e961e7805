"""How far plain colour histograms get on the generated set: the demonstration must not be won without learning.

    python -m benchmarks.synthetic_honesty [--folder FOLDER] [--style summer] [--seed 0] [--test-identities 60]

Generates the set (or takes the one in FOLDER), describes every image by colour histograms of horizontal stripes and
prints the mAP of each variant under the Market-1501 protocol, in percent, the best last.
"""

import argparse
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from reidkit.synthetic import SyntheticConfig, make_synthetic

Images = NDArray[np.uint8]
Array = NDArray[np.float64]


class Split(NamedTuple):
    """Images (N, H, W, 3) and their identities and cameras, (N,)."""

    images: Images
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]


class Variant(NamedTuple):
    """One way to describe images; `bins` a channel, of one joint histogram or of three separate ones."""

    balance: str
    space: str
    stripes: int
    bins: int
    joint: bool
    centered: bool


VARIANTS = [
    Variant(balance, space, stripes, bins, joint, centered)
    for balance, space, stripes, (bins, joint), centered in product(
        ("as is", "grey world"), ("RGB", "HSV"), (6, 8), ((16, False), (4, True)), (False, True)
    )
]


def read(folder: Path) -> Split:
    """A folder of images in Market-1501's naming."""
    paths = sorted(folder.glob("*.jpg"))
    identities = np.array([int(path.name[:4]) for path in paths])
    cameras = np.array([int(path.name.split("_c")[1].split("s")[0]) for path in paths])
    return Split(np.stack([np.asarray(Image.open(path)) for path in paths]), identities, cameras)


def converted(images: Images, variant: Variant) -> Images:
    """The images in the variant's white balance and colour space."""
    if variant.balance == "grey world":
        means = images.mean(axis=(1, 2), keepdims=True) + 1e-3
        images = np.clip(images * (means.mean(axis=3, keepdims=True) / means), 0, 255).astype(np.uint8)
    if variant.space == "HSV":
        images = np.stack([np.asarray(Image.fromarray(image).convert("HSV")) for image in images])
    return images


def describe(images: Images, variant: Variant) -> Array:
    """Histograms of horizontal stripes, each normalised, (N, D)."""
    images = converted(images, variant)
    n, height, width, _ = images.shape
    bins, stripes = variant.bins, variant.stripes
    levels = images.astype(np.int64) * bins // 256
    codes = [levels @ np.array([1, bins, bins * bins])] if variant.joint else [levels[..., c] for c in range(3)]
    size = bins**3 if variant.joint else bins
    columns = (np.abs(np.arange(width) + 0.5 - width / 2) < width / 4) if variant.centered else np.ones(width)
    weight = np.broadcast_to(columns, (n, height, width)).ravel()
    stripe = np.arange(height) * stripes // height
    first = ((np.arange(n)[:, None] * stripes + stripe) * size)[..., None]
    counts = [np.bincount((first + code).ravel(), weight, n * stripes * size) for code in codes]
    histogram = np.concatenate([count.reshape(n, stripes, size) for count in counts], axis=2)
    normalised: Array = histogram / histogram.sum(axis=2, keepdims=True)
    return normalised.reshape(n, -1)


def mean_average_precision(distance: Array, query: Split, gallery: Split) -> float:
    """mAP, 0 to 1, of distances (Q, G); gallery images of the query's identity and camera are left out."""
    scores = []
    for row, identity, camera in zip(distance, query.identities, query.cameras, strict=True):
        kept = (gallery.identities != identity) | (gallery.cameras != camera)
        scores.append(average_precision_score(gallery.identities[kept] == identity, -row[kept]))
    return float(np.mean(scores))


def histogram_scores(folder: Path) -> dict[str, float]:
    """The mAP, 0 to 1, of every histogram variant on the query and gallery of a set."""
    query, gallery = read(folder / "query"), read(folder / "bounding_box_test")
    scores = {}
    for variant in VARIANTS:
        first, second = describe(query.images, variant), describe(gallery.images, variant)
        kind = "joint" if variant.joint else "separate"
        columns = "middle half" if variant.centered else "whole width"
        name = (
            f"{variant.balance:10} {variant.space} {variant.stripes} stripes {variant.bins:2} bins {kind:8} {columns}"
        )
        scores[f"{name}, L1"] = mean_average_precision(cdist(first, second, "cityblock"), query, gallery)
        roots = cdist(np.sqrt(first), np.sqrt(second), "sqeuclidean")
        scores[f"{name}, Hellinger"] = mean_average_precision(roots, query, gallery)
    return scores


def main() -> None:
    """Generate or read a set and print the score of each variant."""
    parser = argparse.ArgumentParser(description="mAP of stripe histograms on the generated set")
    parser.add_argument("--folder", type=Path, help="a set made already")
    parser.add_argument("--style", choices=("summer", "winter"), default="summer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-identities", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder
        if folder is None:
            folder = Path(scratch) / "synthetic"
            config = SyntheticConfig(test_identities=options.test_identities, seed=options.seed, style=options.style)
            make_synthetic(folder, config)
        scores = histogram_scores(folder)
    for name, score in sorted(scores.items(), key=lambda item: item[1]):
        print(f"{100 * score:5.1f}  {name}")


if __name__ == "__main__":
    main()
