"""Re-ranking by k-reciprocal neighbours (Zhong et al., CVPR 2017), on sparse sets instead of square matrices.

The encoding is that of `reidkit.clustering`, with the weights of the paper: distances relative to the farthest image.
The neighbours are searched here: features need not be of unit length, and the farthest image takes all distances.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from reidkit.clustering import NeighbourLists, jaccard_rows
from reidkit.errors import EvaluationError

__all__ = ["as_features", "check_same_dimensions", "rerank", "reranked_blocks"]

_BLOCK_BYTES = 128 * 2**20


def as_features(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return features (images, dimensions) as a contiguous float32 array.

    Raises:
        EvaluationError: They have another shape, or NaN or infinite values.
    """
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2:
        raise EvaluationError(f"{name} features have shape {array.shape}; expected (images, dimensions)")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise EvaluationError(
            f"{bad:,} of {len(array):,} {name} features hold NaN or infinite values; the model has diverged or the "
            "feature file is damaged"
        )
    return array


def check_same_dimensions(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    """Raise an EvaluationError if query (Q, D) and gallery (G, D) features differ in D."""
    if query.shape[1] != gallery.shape[1]:
        raise EvaluationError(
            f"query features have {query.shape[1]} dimensions and gallery features {gallery.shape[1]}; "
            "extract both with the same model"
        )


def rerank(
    query: ArrayLike, gallery: ArrayLike, *, k1: int = 20, k2: int = 6, jaccard_weight: float = 0.7
) -> NDArray[np.float32]:
    """Distances between queries and gallery images that count how many neighbours two images share.

    The final distance of a query and a gallery image is `jaccard_weight` x the Jaccard distance of their k-reciprocal
    neighbourhoods among all images + (1 - `jaccard_weight`) x their squared Euclidean distance, scaled by the largest
    one of that query. The paper's lambda is 1 - `jaccard_weight` = 0.3. Score the result with `evaluate_distances`, or
    do both at once with `evaluate_reranked`, which never holds it whole.

    Memory: the result, 4 Q G bytes (3.6 GiB for MSMT17), and blocks of 128 MiB; never an N x N array (N = Q + G).
    Time: O(N^2 D).

    Args:
        query: (Q, D) features, L2-normalised if cosine ranking is meant.
        gallery: (G, D) features.
        k1: Neighbours in a reciprocal set, not counting the image itself; lowered to N - 1 for small sets.
        k2: Neighbours whose memberships are averaged (the image itself being the first); 1 averages nothing.
        jaccard_weight: Share of the Jaccard distance, in [0, 1].

    Returns:
        (Q, G) float32, in [0, 1].

    Raises:
        EvaluationError: Shapes disagree, features are not finite, or a parameter is out of bounds.
    """
    queries, images = as_features(query, "query"), as_features(gallery, "gallery")
    result, start = np.empty((len(queries), len(images)), dtype=np.float32), 0
    for block in reranked_blocks(queries, images, k1=k1, k2=k2, jaccard_weight=jaccard_weight):
        result[start : start + len(block)] = block
        start += len(block)
    return result


def reranked_blocks(
    queries: NDArray[np.float32], images: NDArray[np.float32], *, k1: int, k2: int, jaccard_weight: float
) -> Iterator[NDArray[np.float32]]:
    """Yield the distances (Q, G) of `rerank` from checked features, a few rows of at most 128 MiB at a time.

    Raises:
        EvaluationError: There is nothing to re-rank, sizes disagree or a parameter is out of bounds.
    """
    check_same_dimensions(queries, images)
    for name, count in (("k1", k1), ("k2", k2)):
        if count < 1:
            raise EvaluationError(f"{name}={count} is below 1; the published values are k1=20, k2=6")
    if not 0 <= jaccard_weight <= 1:
        raise EvaluationError(f"jaccard_weight={jaccard_weight} is outside [0, 1]; the published value is 0.7")
    if len(queries) == 0 or len(images) == 0:
        raise EvaluationError(f"there is nothing to re-rank: {len(queries):,} queries, {len(images):,} gallery images")
    features = np.concatenate([queries, images])
    nearest, farthest = _nearest_neighbours(features, min(k1, len(features) - 1))
    half = min(int(np.rint(k1 / 2)) + 1, nearest.shape[1])
    lists = NeighbourLists(nearest, np.ascontiguousarray(nearest[:, :k2]), half)
    query_norms, image_norms = np.square(queries).sum(1), np.square(images).sum(1)
    rows, start = max(1, _BLOCK_BYTES // (4 * len(images))), 0
    for jaccard in jaccard_rows(lists, partial(fill_weights, features, farthest), len(queries), rows=rows):
        block = slice(start, start + len(jaccard))
        distances = np.maximum(query_norms[block, None] + image_norms - 2 * (queries[block] @ images.T), 0)
        distances *= (1 - jaccard_weight) / farthest[block, None]
        distances += np.float32(jaccard_weight) * jaccard
        yield distances
        start = block.stop


def _nearest_neighbours(features: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Indices (N, k + 1) by growing distance, the image itself first, and the largest squared distance (N,) to any."""
    count = len(features)
    nearest = np.empty((count, k + 1), dtype=np.int32)
    farthest = np.empty(count, dtype=np.float32)
    norms = np.square(features).sum(1)
    rows = max(1, _BLOCK_BYTES // (4 * count))
    for start in range(0, count, rows):
        block = np.arange(start, min(start + rows, count))
        distances = norms[block, None] + norms - 2 * (features[block] @ features.T)
        farthest[block] = distances.max(1)
        distances[block - start, block] = -np.inf  # an image is its own nearest neighbour, duplicates or not
        chosen = np.sort(np.argpartition(distances, k, axis=1)[:, : k + 1], axis=1)
        order = np.argsort(np.take_along_axis(distances, chosen, 1), axis=1, kind="stable")
        nearest[block] = np.take_along_axis(chosen, order, 1)
    return nearest, np.maximum(farthest, np.finfo(np.float32).tiny)


@njit(cache=True, nogil=True)
def fill_weights(features: Any, farthest: Any, rows: Any, first: int) -> None:
    """Weights of row i <- softmax over its images j of -|x_i - x_j|^2 / farthest_i, i counted from `first`.

    features (N, D), farthest (N,), rows as `reidkit.clustering` encodes them. Allocates nothing.
    """
    for i in range(rows.indptr.size - 1):
        own = features[first + i]
        total = 0.0
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            other = features[rows.indices[p]]
            square = 0.0
            for d in range(own.size):
                square += (np.float64(own[d]) - np.float64(other[d])) ** 2
            rows.weights[p] = np.exp(-square / farthest[first + i])
            total += rows.weights[p]
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            rows.weights[p] /= total
