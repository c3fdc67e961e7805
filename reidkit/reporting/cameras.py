"""Pairs of cameras in the clusters: re-identification joins the images of different cameras."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.reporting.run import Integers
from reidkit.reporting.wording import percent

__all__ = ["camera_confusion"]

_MOST_CAMERAS = 20


def camera_confusion(labels: Integers, cameras: Integers) -> dict[str, Any] | str:
    """Count pairs of images in one cluster by their cameras; return in words why it cannot be.

    Args:
        labels: (N,) clusters, -1 is noise.
        cameras: (N,) cameras, -1 is unknown.

    Returns:
        A `summary`, the names of K `cameras`, and `rows`: row i has the per cent of all such pairs that are of camera i
        and each of the cameras up to i.
    """
    # Images of known cameras in clusters
    used = (labels >= 0) & (cameras >= 0)
    if not used.any():
        return "The cameras of the images are unknown, so which of them meet in the clusters is too."
    names, seen = np.unique(cameras[used], return_inverse=True)
    if len(names) < 2:
        return "All images in clusters are of one camera: there is nothing to confuse."

    # Pairs by cameras, and as they would be if clusters did not depend on the camera
    clusters = np.unique(labels[used], return_inverse=True)[1]
    pairs = _pairs(clusters, seen, len(names))
    total = pairs.sum()
    if not total:
        return "No cluster holds two images of known cameras."
    shares = 100 * pairs / total
    expected = _pairs(np.zeros_like(clusters), seen, len(names))
    across, chance = (1 - np.trace(table) / table.sum() for table in (pairs, expected))

    # Table of the cameras with the most images
    counts = np.bincount(seen)
    kept = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CAMERAS])
    summary = (
        f"{percent(across)} of the pairs in one cluster are of two cameras; if clusters did not depend on the camera, "
        f"it would be {percent(chance)}."
    )
    if len(kept) < len(names):
        summary += f" The table shows the {len(kept)} cameras with the most images, of {len(names)}."
    rows = [[float(shares[a, b]) for b in kept[: place + 1]] for place, a in enumerate(kept)]
    return {"summary": summary, "cameras": [str(names[index]) for index in kept], "rows": rows}


def _pairs(clusters: Integers, cameras: Integers, number: int) -> NDArray[np.float64]:
    """(K, K) unordered pairs of images in one cluster by their cameras, in the lower triangle."""
    table = np.zeros((clusters.max() + 1, number))
    np.add.at(table, (clusters, cameras), 1)
    pairs = np.tril(table.T @ table, -1)
    np.fill_diagonal(pairs, (table * (table - 1) / 2).sum(axis=0))
    return pairs
