"""Re-ranking by k-reciprocal neighbours (Zhong et al., CVPR 2017), on sparse sets instead of square matrices."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from reidkit.errors import EvaluationError
from reidkit.evaluation.checks import as_features, check_same_dimensions

__all__ = ["rerank", "reranked_blocks"]

_BLOCK_BYTES = 128 * 2**20


class _Neighbours(NamedTuple):
    """Nearest neighbours of every image among all images, queries first."""

    nearest: NDArray[np.int64]
    """(N, k1 + 1) indices by growing distance, the image itself first."""
    farthest: NDArray[np.float32]
    """(N,) the largest squared distance of an image to any other."""


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
    neighbours = _nearest_neighbours(features, min(k1, len(features) - 1))
    memberships = _memberships(features, neighbours, k1, k2)
    by_member = memberships[len(queries) :].tocsc()
    query_norms, image_norms = np.square(queries).sum(1), np.square(images).sum(1)
    rows = max(1, _BLOCK_BYTES // (4 * len(images)))
    for start in range(0, len(queries), rows):
        block = slice(start, min(start + rows, len(queries)))
        distances = np.maximum(query_norms[block, None] + image_norms - 2 * (queries[block] @ images.T), 0)
        distances *= (1 - jaccard_weight) / neighbours.farthest[block, None]
        for row, query in enumerate(range(block.start, block.stop)):
            distances[row] += jaccard_weight * _jaccard_distances(memberships, query, by_member)
        yield distances


def _nearest_neighbours(features: NDArray[np.float32], k: int) -> _Neighbours:
    count = len(features)
    nearest = np.empty((count, k + 1), dtype=np.int64)
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
    return _Neighbours(nearest, np.maximum(farthest, np.finfo(np.float32).tiny))


def _memberships(features: NDArray[np.float32], neighbours: _Neighbours, k1: int, k2: int) -> sparse.csr_array:
    """(N, N) weights of an image's expanded reciprocal set, averaged over its k2 nearest; each row sums to 1."""
    members = _expanded_sets(neighbours.nearest, k1).tocoo()
    differences = _squared_distances(features, members.row, members.col)
    weights = np.exp(-differences / neighbours.farthest[members.row])
    weights /= np.bincount(members.row, weights)[members.row]
    memberships = sparse.csr_array((weights, (members.row, members.col)), shape=members.shape)
    averaged = neighbours.nearest[:, :k2]
    return sparse.csr_array(_indicator(averaged) @ memberships / averaged.shape[1])


def _expanded_sets(nearest: NDArray[np.int64], k1: int) -> sparse.csr_array:
    """(N, N) 0/1: the reciprocal sets, joined by the half sets that overlap them in more than two thirds."""
    full, half = (_reciprocal(nearest[:, : k + 1]) for k in (k1, int(np.rint(k1 / 2))))
    shared = (full @ half.T).multiply(full).tocoo()  # members of the half set of j that lie in the set of i
    chosen = shared.data > np.float64(2 / 3) * half.sum(axis=1)[shared.col]
    joined = sparse.csr_array((shared.data[chosen], (shared.row[chosen], shared.col[chosen])), shape=shared.shape)
    return sparse.csr_array((full + joined @ half).sign())


def _reciprocal(nearest: NDArray[np.int64]) -> sparse.csr_array:
    """(N, N) 0/1: pairs that are among each other's neighbours (N, K)."""
    indicator = _indicator(nearest)
    return sparse.csr_array(indicator.multiply(indicator.T))


def _indicator(nearest: NDArray[np.int64]) -> sparse.csr_array:
    """(N, N) with a one at every (row, neighbour) of the indices (N, K)."""
    count, k = nearest.shape
    ones = np.ones(nearest.size, dtype=np.float32)
    return sparse.csr_array((ones, nearest.ravel(), np.arange(0, nearest.size + 1, k)), shape=(count, count))


def _squared_distances(
    features: NDArray[np.float32], rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(M,) squared Euclidean distances of the pairs (rows[m], columns[m]), in blocks."""
    result = np.empty(len(rows), dtype=np.float32)
    size = max(1, _BLOCK_BYTES // (8 * features.shape[1]))
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        difference = features[rows[block]] - features[columns[block]]
        result[block] = np.einsum("md,md->m", difference, difference)
    return result


def _jaccard_distances(memberships: sparse.csr_array, query: int, by_member: sparse.csc_array) -> NDArray[np.float64]:
    """(G,) Jaccard distances of one query to the gallery, 1 where no member is shared.

    Args:
        memberships: (N, N) of all images, queries first.
        query: Row of the query.
        by_member: (G, N) of the gallery, by columns.
    """
    own = slice(memberships.indptr[query], memberships.indptr[query + 1])
    members, weights = memberships.indices[own], memberships.data[own]
    starts, lengths = by_member.indptr[members], np.diff(by_member.indptr)[members]
    offsets = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    entries = offsets + np.arange(lengths.sum())
    smaller = np.minimum(np.repeat(weights, lengths), by_member.data[entries])
    shared = np.bincount(by_member.indices[entries], smaller, minlength=by_member.shape[0])
    distances: NDArray[np.float64] = np.maximum(1 - shared / (2 - shared), 0)
    return distances
