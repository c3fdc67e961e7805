"""Exact nearest neighbours: fast candidates, ranked anew in one fixed arithmetic.

A blocked matrix product rounds each inner product, differently from one backend, precision, tile size and thread count
to the next. So the products only propose candidates, more than asked for. The candidates are ranked by `similarity`,
and a row whose last neighbour does not stand clear of what rounding could have hidden is searched again among all
points (`reidkit.clustering.rounding` has the bounds). What comes out is the same on every backend.
"""

import logging
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.candidates import (
    Candidates,
    empty_candidates,
    merge,
    search_device,
    search_faiss,
    search_processor,
)
from reidkit.clustering.capacity import refuse_beyond_memory, search_bytes
from reidkit.clustering.checks import check_count, real_rows, unit_rows
from reidkit.clustering.parallel import kernel, map_rows, worker_pool
from reidkit.clustering.rounding import Single, try_half
from reidkit.clustering.sparse_rows import Rows
from reidkit.distributed import ALONE, ProcessGroup
from reidkit.errors import ClusteringError

__all__ = ["check_backend", "fill_similarities", "nearest_neighbours", "search"]

logger = logging.getLogger(__name__)

_FAISS = ("faiss", "approximate")
_SAMPLE = 256
_SETTLE_SCORES = 1 << 24


class Ranking(NamedTuple):
    """The K nearest of N points, itself first, then by falling similarity."""

    neighbours: NDArray[np.int32]  # (N, K), -1 where there are no more
    last: NDArray[np.float32]  # (N,), similarity of the last neighbour, -inf where it is -1


class Doubt(NamedTuple):
    """Points whose neighbours must be searched again among all N."""

    points: NDArray[np.int64]  # (B,)
    scores: NDArray[np.float32]  # (B, N), inner products as the backend rounds them
    floor: NDArray[np.float64]  # (B,), lower scores cannot be neighbours


class Best(NamedTuple):
    """A short list under construction: by falling score, then by rising index."""

    scores: NDArray[np.float32]  # (K,)
    indices: NDArray[np.int32]  # (K,)


def nearest_neighbours(
    X: Any,  # noqa: N803
    k: int,
    *,
    backend: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    group: Any = None,
) -> NDArray[np.int32]:
    """Find the exact k nearest neighbours of every feature among all features, by cosine similarity.

    For unit vectors this is the order of Euclidean distance. Each point is its own first neighbour, also among
    duplicates. The others come by falling similarity x_i . x_j, which is summed in double precision and rounded to
    float32; equal ones come by rising index. Backend, device, tiles, threads and processes do not change the result.

    Args:
        X: (N, D) features; they are L2-normalised here, and need not be before.
        k: Neighbours per point, the point itself included.
        backend: "torch"; "faiss" (an extra: flat index on the CPU); or "auto", the fastest exact one, which is torch.
            "approximate" looks at a part of the points only (faiss' inverted lists on the CPU) and logs how many of the
            true neighbours it found for a sample; it is never chosen unasked.
        device: torch's name of the device that computes the products.
        threads: Threads; None takes every core.
        group: `torch.distributed` process group that shares the search: all its processes call with the same features
            (all N of them), each computes its part of the products and ranks its part of the rows, and each returns
            the whole result. None: this process computes all.

    Returns:
        (N, min(k, N)) indices.

    Raises:
        ClusteringError: Features that cannot be compared, k < 1, an unknown backend, one that is not installed, too
            little memory, or a group whose processes do not agree.
    """
    check_count("k", k)
    processes = ProcessGroup.of(group)
    dense = real_rows(X)
    n, dimension = dense.shape
    refuse_beyond_memory(
        search_bytes(n, dimension, k, processes=processes.size),
        what=f"the search for {k:,} neighbours of {n:,} features of size {dimension:,}",
        remedy="search among fewer images, lower k",
        processes=processes,
    )
    with worker_pool(threads) as pool:
        points = unit_rows(dense)
        processes.check_same(points, k)
        return search(points, k, backend=backend, device=device, pool=pool, processes=processes)


def search(
    points: NDArray[np.float32],
    k: int,
    *,
    backend: str,
    device: str,
    pool: Executor,
    groups: NDArray[np.int32] | None = None,
    processes: ProcessGroup = ALONE,
) -> NDArray[np.int32]:
    """Find the nearest neighbours of unit vectors, as `nearest_neighbours` describes it.

    Args:
        points: (N, D) unit vectors.
        k: Neighbours per point, the point itself included.
        backend: "auto", "torch" or "faiss".
        device: torch's name of a device.
        pool: Threads for the kernels.
        groups: (N,) a point's neighbours, but for itself, are of other groups than its own; None: of all.
        processes: ProcessGroup that share the search.

    Returns:
        (N, min(k, N)) indices, -1 where there are too few points of other groups.

    Raises:
        ClusteringError: An unknown backend, one that is not installed, or one that knows no groups.
    """
    check_backend(backend, device, groups)
    n, dimension = points.shape
    k = min(k, n)
    if k == 1:
        return np.arange(n, dtype=np.int32)[:, None]
    half = try_half(points, k, groups) if device == "cpu" and backend not in _FAISS else None
    rounding = half or Single.of(dimension)
    width = min(k + rounding.margin, n)
    approximate = backend == "approximate"
    if backend in _FAISS:
        proposed = search_faiss(points, width, approximate=approximate, processes=processes)
    elif device == "cpu":
        proposed = search_processor(points, width, pool, half=half is not None, groups=groups, processes=processes)
    else:
        proposed = search_device(points, width, device, groups=groups, processes=processes)
    candidates = _merged(proposed, pool, processes)
    ranking = Ranking(np.full((n, k), -1, np.int32), np.empty(n, np.float32))
    first, stop = processes.rows(n)
    map_rows(pool, partial(rank, points, candidates.indices, ranking), stop, first=first)
    if approximate:
        _report_recall(points, ranking, first, stop)
    elif width < n:
        _settle(points, rounding.ceiling(candidates.floor), ranking, groups, pool)
    return processes.all_reduce(ranking.neighbours, "max")


def check_backend(backend: str, device: str, groups: NDArray[np.int32] | None) -> None:
    """Refuse a backend that does not exist, or cannot do what is asked for, with a ClusteringError."""
    if backend not in ("auto", "torch", *_FAISS):
        raise ClusteringError(f"backend={backend!r} is unknown; choose 'auto', 'torch', 'faiss' or 'approximate'")
    if backend in _FAISS and device != "cpu":
        raise ClusteringError(
            f"backend={backend!r} searches on the CPU, not on device={device!r}; pass backend='torch'"
        )
    if backend in _FAISS and groups is not None:
        raise ClusteringError(f"backend={backend!r} cannot search among other cameras only; pass backend='torch'")


def _merged(proposed: Candidates, pool: Executor, processes: ProcessGroup) -> Candidates:
    """Unite the candidates of all processes, for the rows of this one's share; the other rows stay empty."""
    if processes.size == 1:
        return proposed
    merged = empty_candidates(*proposed.indices.shape)
    first, stop = processes.rows(len(merged.floor))
    for other in processes.arrays_of_each(proposed):
        map_rows(pool, partial(merge, merged, other), stop, first=first)
    return merged


def _settle(
    points: NDArray[np.float32],
    ceiling: NDArray[np.float64],
    ranking: Ranking,
    groups: NDArray[np.int32] | None,
    pool: Executor,
) -> None:
    """Search again, among all points, for those whose last neighbour is not clear of what has been left out.

    Where the ceiling is -inf, nothing has been left out: every point is a candidate, or the row is another process's.
    """
    doubtful = np.flatnonzero((ceiling > -np.inf) & (ranking.last <= ceiling))
    size = max(1, _SETTLE_SCORES // len(points))
    error = Single.of(points.shape[1]).error
    for start in range(0, len(doubtful), size):
        rows = doubtful[start : start + size]
        scores = points[rows] @ points.T
        if groups is not None:
            scores[groups[rows, None] == groups] = -np.inf
        doubt = Doubt(rows, scores, ranking.last[rows].astype(np.float64) - error)
        map_rows(pool, partial(rank_doubtful, points, doubt, ranking), len(rows), smallest=1)


def _report_recall(points: NDArray[np.float32], ranking: Ranking, first: int, stop: int) -> None:
    """Log which share of the true neighbours an approximate search has found, for a sample of rows [first, stop)."""
    rows = np.unique(np.linspace(first, stop - 1, _SAMPLE).astype(np.int64))
    k = ranking.neighbours.shape[1]
    scores = points[rows] @ points.T
    scores[np.arange(len(rows)), rows] = np.inf  # each point is its own first neighbour
    true = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    found = [len(np.intersect1d(*pair)) for pair in zip(true, ranking.neighbours[rows], strict=True)]
    logger.warning(
        "approximate search: %.2f %% of the true neighbours found, in a sample of %d of %d points",
        100 * sum(found) / true.size,
        len(rows),
        len(points),
    )


@kernel
def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    """Inner product of two (D,) vectors, summed in double precision, rounded to float32. Allocates nothing."""
    total = 0.0
    for d in range(a.size):
        total += np.float64(a[d]) * np.float64(b[d])
    return np.float32(total)


@kernel
def insert(best: Best, count: int, score: np.float32, index: int) -> int:
    """Insert (score, index) into the first `count` entries of a list of K; return the new count. Allocates nothing."""
    place = count
    while place > 0:
        other = best.scores[place - 1]
        if other > score or (other == score and best.indices[place - 1] < index):
            break
        if place < best.scores.size:
            best.scores[place] = other
            best.indices[place] = best.indices[place - 1]
        place -= 1
    if place < best.scores.size:
        best.scores[place] = score
        best.indices[place] = index
    return min(count + 1, best.scores.size)


@kernel
def rank(points: NDArray[np.float32], candidates: NDArray[np.int32], ranking: Ranking, start: int, stop: int) -> None:
    """Rank the candidates (N, M) of points [start, stop) by (-similarity, index), after the point itself.

    Allocates a list of K - 1.
    """
    others = ranking.neighbours.shape[1] - 1
    best = Best(np.empty(others, np.float32), np.empty(others, np.int32))
    for i in range(start, stop):
        best.scores[:] = -np.inf
        best.indices[:] = -1
        count = 0
        for j in candidates[i]:
            if j not in (i, -1):
                count = insert(best, count, similarity(points[i], points[j]), j)
        store(ranking, i, best)


@kernel
def rank_doubtful(points: NDArray[np.float32], doubt: Doubt, ranking: Ranking, start: int, stop: int) -> None:
    """Rank all points of a score at or above the floor for the doubtful points [start, stop), as `rank` does.

    Allocates a list of K - 1.
    """
    others = ranking.neighbours.shape[1] - 1
    best = Best(np.empty(others, np.float32), np.empty(others, np.int32))
    for row in range(start, stop):
        i = doubt.points[row]
        count = 0
        for j in range(points.shape[0]):
            if doubt.scores[row, j] >= doubt.floor[row] and j != i:
                count = insert(best, count, similarity(points[i], points[j]), j)
        store(ranking, i, best)


@kernel
def store(ranking: Ranking, i: int, best: Best) -> None:
    """Row i of the ranking <- i, then the K - 1 entries of its list. Allocates nothing."""
    ranking.neighbours[i, 0] = i
    for p in range(best.indices.size):
        ranking.neighbours[i, p + 1] = best.indices[p]
    ranking.last[i] = best.scores[best.scores.size - 1]


@kernel
def fill_similarities(points: NDArray[np.float32], rows: Rows, first: int) -> None:
    """Weights of row i <- similarity of point first + i with each index of the row. Allocates nothing."""
    for i in range(rows.indptr.size - 1):
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            rows.weights[p] = similarity(points[first + i], points[rows.indices[p]])
