"""The images of a gallery that are most like a query."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.evaluation import rerank as rerank_distances
from reidkit.inference.calibration import Calibration
from reidkit.inference.gallery_index import GalleryIndex

__all__ = ["Match", "nearest", "search_gallery"]

_MARGIN = 16  # candidates beyond those asked for, so that the rounding of a backend decides nothing
_BLOCK = 65_536


class Match(NamedTuple):
    """A gallery image that a query found."""

    path: Path
    cosine: float
    """Similarity of the features, 1 is equal."""
    probability: float | None
    """That both show the same individual, at even odds before; None without a calibration."""
    distance: float | None
    """After re-ranking, in [0, 1]; None without."""


def search_gallery(
    index: GalleryIndex,
    features: NDArray[np.float32],
    queries: Sequence[Path],
    *,
    top: int = 10,
    rerank: bool = False,
    calibration: Calibration | None = None,
) -> list[list[Match]]:
    """Rank the gallery for every query; a query that lies in the gallery does not find itself.

    Args:
        index: The gallery, G images.
        features: (Q, D) of the queries, L2-normalised.
        queries: Their Q files.
        top: Matches of each query, fewer in a small gallery.
        rerank: Rank by k-reciprocal neighbours (Zhong et al., CVPR 2017) among queries and gallery instead of by
            cosine; time grows with (Q + G)^2, memory with Q G.
        calibration: Says how probable a match is.

    Raises:
        DataError: `top` is below 1, or the gallery is empty.
    """
    gallery = index.features()
    if top < 1 or not len(gallery):
        raise DataError(f"top={top} matches of {len(gallery):,} gallery images: both must be 1 or more")
    if rerank:
        distances = rerank_distances(features, gallery)
        ranked = np.argsort(distances, axis=1, kind="stable")[:, : top + 1]
        cosines = _cosines(features, gallery, ranked)
    else:
        distances = None
        cosines, ranked = nearest(features, gallery, top + 1)
    probabilities = None if calibration is None else calibration.probability(cosines)
    paths = index.paths()
    found = []
    for row, query in enumerate(queries):
        own = Path(os.path.abspath(query))
        matches = []
        for column, image in enumerate(ranked[row].tolist()):
            cosine = float(cosines[row, column])
            probability = None if probabilities is None else float(probabilities[row, column])
            distance = None if distances is None else float(distances[row, image])
            if paths[image] != own:
                matches.append(Match(paths[image], cosine, probability, distance))
        found.append(matches[:top])
    return found


def nearest(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The gallery images of the largest cosine, by faiss's flat index where it is installed, otherwise by torch.

    Candidates are scored anew in float64 and ties are broken by position, so that both give the same.

    Args:
        queries: (Q, D), L2-normalised.
        gallery: (G, D), L2-normalised.
        count: K, lowered to G.

    Returns:
        Cosines and indices, both (Q, K), best first.
    """
    count = min(count, len(gallery))
    width = min(count + _MARGIN, len(gallery))
    try:
        import faiss
    except ImportError:
        candidates = _search_torch(queries, gallery, width)
    else:
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        candidates = index.search(queries, width)[1]
    candidates = np.sort(candidates, axis=1)
    cosines = _cosines(queries, gallery, candidates)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(candidates, order, 1)


def _search_torch(queries: NDArray[np.float32], gallery: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    """(Q, width) candidates, from products with one block of the gallery after another."""
    asked = torch.from_numpy(queries)
    scores, indices = asked.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(gallery), _BLOCK):
        products = asked @ torch.from_numpy(gallery[start : start + _BLOCK]).T
        score, index = products.topk(min(width, products.shape[1]))
        scores, indices = torch.cat([scores, score], 1), torch.cat([indices, index + start], 1)
        scores, order = scores.topk(min(width, scores.shape[1]))
        indices = indices.gather(1, order)
    return indices.numpy()


def _cosines(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(Q, K) cosines of every query with the gallery images chosen for it."""
    pairs = zip(queries.astype(np.float64), chosen, strict=True)
    return np.stack([gallery[images].astype(np.float64) @ query for query, images in pairs])
