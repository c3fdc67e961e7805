"""A map of the features in two dimensions, each image a dot, with small pictures for the pointer."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reidkit.pages import data_uri, open_picture
from reidkit.reporting.run import Clustering, TrainingFeatures
from reidkit.reporting.wording import count

__all__ = ["FeatureMap", "make_feature_map"]

MOST_POINTS = 3000
FEWEST_FOR_UMAP = 200
"""Below this neighbourhoods are too few to be worth UMAP."""

_WIDTH, _HEIGHT, _MARGIN = 1000, 560, 12
_TINTS = 10
"""Colours of the style sheet, given to clusters in turn."""
_SEED = 0

# Markup.format escapes what it inserts.
_SVG = Markup(
    '<svg viewBox="0 0 {} {}" role="img" class="map" '
    'aria-label="Map of the features: images that the model finds alike are close together">{}</svg>'
)
_DOT = Markup(
    '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4" data-tile="{}" data-cluster="{}"><title>{}</title></circle>'
)

TILE_WIDTH, TILE_HEIGHT = 40, 80
_COLUMNS = 25
_PER_SHEET = 500
_SHEET_QUALITY = 60


class FeatureMap(NamedTuple):
    """A map for the page."""

    method: str
    """Projection and number of images, in words."""
    drawing: Markup
    """An `svg` element; its k-th dot belongs to tile k of the sheets."""
    sheets: list[str]
    """Pictures of 500 images each, 25 in a row, as data URIs."""


def make_feature_map(clustering: Clustering, training: TrainingFeatures) -> FeatureMap | None:
    """Project at most 3,000 images to the plane by UMAP, or by principal components where UMAP is not installed.

    Returns:
        None with fewer than three images.
    """
    total = len(training.features)
    if total < 3:
        return None
    rows = np.arange(total)
    if total > MOST_POINTS:
        rows = np.sort(np.random.default_rng(_SEED).choice(total, MOST_POINTS, replace=False))
    points, how = _project(training.features[rows])
    # Each axis fills the drawing
    low, high = points.min(axis=0), points.max(axis=0)
    share = (points - low) / np.where(high > low, high - low, 1)
    places = _MARGIN + share * (np.array([_WIDTH, _HEIGHT]) - 2.0 * _MARGIN)
    drawing = _draw(places, rows, clustering, training)
    paths = [Path(clustering.paths[row]) for row in rows.tolist()]
    sheets = [_sheet(paths[start : start + _PER_SHEET]) for start in range(0, len(paths), _PER_SHEET)]
    shown = f"{MOST_POINTS:,} of {total:,} images, drawn at random" if total > MOST_POINTS else count(total, "image")
    return FeatureMap(f"{shown}; {how}", drawing, sheets)


def _project(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """Places (M, 2) and the method in words."""
    from sklearn.decomposition import PCA

    why = f"fewer than {FEWEST_FOR_UMAP} images are too few for UMAP"
    if len(features) >= FEWEST_FOR_UMAP:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about TensorFlow, which is not needed, and its own defaults
                from umap import UMAP

                places = UMAP(n_neighbors=15, min_dist=0.5, random_state=_SEED, n_jobs=1).fit_transform(features)
            return np.asarray(places, np.float64), "projected by UMAP (15 neighbours, minimal distance 0.5)."
        except ImportError:
            why = "for UMAP, which shows neighbourhoods better, install reidkit[report]"
    pca = PCA(2, random_state=_SEED, svd_solver="full" if min(features.shape) <= 50 else "randomized")
    with np.errstate(invalid="ignore"):  # equal features have no variance
        places = pca.fit_transform(features)
    return np.asarray(places, np.float64), f"projected on their first two principal components ({why})."


def _draw(
    places: NDArray[np.float64], rows: NDArray[np.int64], clustering: Clustering, training: TrainingFeatures
) -> Markup:
    dots = []
    order = np.argsort(clustering.labels[rows] >= 0, kind="stable")  # noise is drawn below
    for index in order.tolist():
        row = int(rows[index])
        cluster = int(clustering.labels[row])
        words = [Path(clustering.paths[row]).name, f"cluster {cluster}" if cluster >= 0 else "noise"]
        for name, values in (("identity", training.identities), ("camera", training.cameras)):
            words += [f"{name} {values[row]}"] if values[row] >= 0 else []
        tint = f"t{cluster % _TINTS}" if cluster >= 0 else "t-noise"
        dots.append(_DOT.format(tint, *places[index], index, cluster, " · ".join(words)))
    return _SVG.format(_WIDTH, _HEIGHT, Markup().join(dots))


def _sheet(paths: list[Path]) -> str:
    """Small pictures side by side; a grey field for those that cannot be shown."""
    from PIL import Image

    height = -(-len(paths) // _COLUMNS) * TILE_HEIGHT
    sheet = Image.new("RGB", (_COLUMNS * TILE_WIDTH, height), (128, 128, 128))
    for index, path in enumerate(paths):
        picture = open_picture(path, (TILE_WIDTH, TILE_HEIGHT))
        if not isinstance(picture, str):
            left = index % _COLUMNS * TILE_WIDTH + (TILE_WIDTH - picture.width) // 2
            top = index // _COLUMNS * TILE_HEIGHT + (TILE_HEIGHT - picture.height) // 2
            sheet.paste(picture, (left, top))
    return data_uri(sheet, _SHEET_QUALITY)
