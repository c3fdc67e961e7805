"""Section 4 of the method as one would first write it, in NumPy and Python on N x N arrays: the benchmark's measure.

It does what the public implementations do (dense distances, dense encodings, an inverted index), without their details.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

__all__ = ["plain_dbscan", "plain_distances", "plain_neighbours"]

Indices = NDArray[np.int64]

_ROWS = 2000  # of products at a time: the indices of all at once would take 8 N^2 bytes


def plain_neighbours(features: NDArray[np.float32], k: int) -> Indices:
    """(N, k) nearest neighbours of unit vectors (N, D), the point itself first."""
    found = []
    for start in range(0, len(features), _ROWS):
        products = features[start : start + _ROWS] @ features.T
        own = np.arange(len(products))
        products[own, start + own] = np.inf
        near = np.argpartition(-products, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(products, near, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(near, order, 1))
    return np.concatenate(found)


def plain_distances(
    features: NDArray[np.float32], neighbours: Indices, *, k1: int = 30, k2: int = 6, double: bool = False
) -> NDArray[np.float32]:
    """(N, N) Jaccard distances of unit vectors (N, D) with given neighbours (N, >= k1).

    Simple fractions among them, such as 1/2, fall on either side of an equal eps by rounding, unless `double`.
    """
    precision: Any = np.float64 if double else np.float32
    features = features.astype(precision)
    count, half = len(features), round(k1 / 2) + 1
    near, nearest = neighbours[:, :k1], neighbours[:, :half]
    full_sets = [row[(near[row] == i).any(axis=1)] for i, row in enumerate(near)]
    half_sets = [row[(nearest[row] == i).any(axis=1)] for i, row in enumerate(nearest)]
    encoding = np.zeros((count, count), dtype=precision)
    for i, members in enumerate(full_sets):
        joined = [members]
        for j in members:
            candidate = half_sets[j]
            if 3 * np.isin(candidate, members, assume_unique=True).sum() > 2 * len(candidate):
                joined.append(candidate)
        expanded = np.unique(np.concatenate(joined))
        weights = np.exp(-(2 - 2 * (features[expanded] @ features[i])))
        encoding[i, expanded] = weights / weights.sum()
    if k2 > 1:
        encoding = np.stack([encoding[row].mean(axis=0) for row in neighbours[:, :k2]])
    holders = [np.flatnonzero(column) for column in encoding.T]
    distances = np.empty((count, count), dtype=np.float32)
    for i in range(count):
        shared = np.zeros(count, dtype=precision)
        for member in np.flatnonzero(encoding[i]):
            others = holders[member]
            shared[others] += np.minimum(encoding[i, member], encoding[others, member])
        distances[i] = np.maximum(1 - shared / (2 - shared), 0)
    return distances


def plain_dbscan(distances: NDArray[np.float32], eps: float, min_samples: int = 4) -> Indices:
    """(N,) labels of scikit-learn's DBSCAN on the square matrix."""
    labels: Indices = DBSCAN(eps=np.float32(eps), min_samples=min_samples, metric="precomputed").fit_predict(distances)
    return labels
