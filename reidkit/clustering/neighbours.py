"""Exact nearest neighbours: fast candidates, ranked in one fixed arithmetic.

A blocked matrix product rounds each inner product, differently from one library, precision, tile size and thread count
to the next. So the products only propose candidates, more than asked for. The candidates are ranked by `similarity`,
and a row whose last neighbour is not clear of what rounding could have hidden is searched again among all points
(`reidkit.clustering.rounding` has the bounds). The result is the same with every library.

The search on the CPU is our own (`search_processor`) because it computes each product once and in bfloat16: the 30
nearest of 12,936 x 384 take 2.5 s, exact, on 2 cores of an AMD EPYC with AVX512-BF16; torch's product and topk take 5.2
s, faiss' flat index 6.2 s, scikit-learn 11.7 s (`python -m benchmarks.clustering --libraries`, on a busy machine).
"""

import logging
from collections import deque
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.candidates import Candidates, empty_candidates, merge
from reidkit.clustering.capacity import refuse_beyond_memory, search_bytes
from reidkit.clustering.checks import check_count, real_rows, unit_rows
from reidkit.clustering.libraries import SearchTask, check_backend, choose_library, propose
from reidkit.clustering.parallel import Resources, kernel, map_rows, open_resources
from reidkit.clustering.rounding import Half, Single
from reidkit.clustering.sparse_rows import Rows
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError

__all__ = ["fill_similarities", "nearest_neighbours", "search"]

logger = logging.getLogger(__name__)

_SAMPLE = 256
_SETTLE_SCORES = 1 << 24


class Ranking(NamedTuple):
    """The K nearest points of Q queries, by falling similarity."""

    neighbours: NDArray[np.int32]  # (Q, K), -1 where there are no more
    last: NDArray[np.float32]  # (Q,), similarity of the last neighbour, -inf where it is -1
    itself: bool  # query i is point i, and its own first neighbour


class TopK(NamedTuple):
    """A short list under construction: by falling score, then by rising index."""

    scores: NDArray[np.float32]  # (K,)
    indices: NDArray[np.int32]  # (K,)


def nearest_neighbours(
    X: Any,  # noqa: N803
    k: int,
    *,
    queries: Any = None,
    backend: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    group: Any = None,
) -> NDArray[np.int32]:
    """Find the exact k nearest neighbours of every feature among all features, by cosine similarity.

    For unit vectors this is the order of Euclidean distance. The neighbours come by falling similarity x_i . x_j, which
    is summed in double precision and rounded to float32; equal ones come by rising index. Each point is its own first
    neighbour, also among duplicates; with `queries` no point is left out or preferred. Backend, device, tiles, threads
    and processes do not change the result.

    Args:
        X: (N, D) features; they are L2-normalised here, and need not be before.
        k: Neighbours per point, the point itself included.
        queries: (Q, D) features whose neighbours among X are sought, L2-normalised here; None: those of X themselves.
        backend: "torch"; "faiss" (an extra, for CPUs or GPUs: its flat index); or "auto", the faster of both, timed on
            a sample where faiss is installed. The library and the reason are logged. "approximate" looks at a part of
            the points only (faiss' inverted lists) and logs how many of the true neighbours it found for a sample; it
            is never chosen unasked.
        device: torch's name of the device that computes the products.
        threads: Threads; None takes every core.
        group: `torch.distributed` process group that shares the search: all its processes call with the same features
            (all N of them), each computes its part of the products and ranks its part of the rows, and each returns
            the whole result. None: this process computes all.

    Returns:
        (N, min(k, N)) indices, or (Q, min(k, N)).

    Raises:
        ClusteringError: Features that cannot be compared, k < 1, an unknown backend, one that is not installed, too
            little memory, or a group whose processes do not agree.
    """
    check_count("k", k)
    processes = ProcessGroup.of(group)
    dense, asked = real_rows(X), None if queries is None else real_rows(queries)
    n, dimension = dense.shape
    if asked is not None and asked.shape[1] != dimension:
        raise ClusteringError(
            f"queries of {asked.shape[1]:,} dimensions cannot be compared with features of {dimension:,}; extract both "
            "with the same model"
        )
    refuse_beyond_memory(
        search_bytes(n, dimension, k, queries=None if asked is None else len(asked), processes=processes.size),
        what=f"the search for {k:,} neighbours of {n:,} features of size {dimension:,}",
        remedy="search among fewer images, lower k",
        processes=processes,
    )
    with open_resources(threads, processes, backend=backend, device=device) as resources:
        points = unit_rows(dense)
        rows = None if asked is None else unit_rows(asked)
        processes.check_same(points, rows, k)
        return search(SearchTask(points, k, rows), resources)


def search(task: SearchTask, resources: Resources, *, log: bool = True) -> NDArray[np.int32]:
    """Find nearest neighbours, as `nearest_neighbours` describes it.

    Args:
        task: The search; K may be larger than N.
        resources: Library, device, threads and processes.
        log: Whether to log which library searches.

    Returns:
        (Q, min(K, N)) indices, -1 where there are too few points of other groups.

    Raises:
        ClusteringError: An unknown backend, one that is not installed, or one that knows no groups.
    """
    check_backend(resources, task.groups)
    points, asked = task.points, task.asked
    n = len(points)
    task = task._replace(k=min(task.k, n))
    if task.queries is None and task.k == 1:
        return np.arange(n, dtype=np.int32)[:, None]
    library, rounding = choose_library(task, resources, log=log)
    width = min(task.k + rounding.margin, n)
    proposed = propose(task, width, library, resources, half=isinstance(rounding, Half))
    candidates = _merged(proposed, resources)
    neighbours = np.full((len(asked), task.k), -1, np.int32)
    ranking = Ranking(neighbours, np.empty(len(asked), np.float32), task.queries is None)
    first, stop = resources.processes.rows(len(asked))
    map_rows(resources.pool, partial(rank, asked, points, candidates.indices, ranking), stop, first=first)
    if library == "approximate":
        _report_recall(task, ranking, first, stop)
    elif width < n:
        _settle(task, rounding.ceiling(candidates.floor), ranking, resources)
    return resources.processes.all_reduce(neighbours, "max")


def _merged(proposed: Candidates, resources: Resources) -> Candidates:
    """Join the candidates of all processes, for the rows of this one's share; the other rows stay empty."""
    processes = resources.processes
    if processes.size == 1:
        return proposed
    merged = empty_candidates(*proposed.indices.shape)
    first, stop = processes.rows(len(merged.floor))
    for other in processes.arrays_of_each(proposed):
        map_rows(resources.pool, partial(merge, merged, other), stop, first=first)
    return merged


def _settle(task: SearchTask, ceiling: NDArray[np.float64], ranking: Ranking, resources: Resources) -> None:
    """Search again, among all points, for those whose last neighbour is not clear of what has been left out.

    Where the ceiling is -inf, nothing has been left out: every point is a candidate, or the row is another process's.
    """
    points, asked, groups = task.points, task.asked, task.groups
    uncertain = np.flatnonzero((ceiling > -np.inf) & (ranking.last <= ceiling))
    size = max(1, _SETTLE_SCORES // len(points))
    error = Single.of(points.shape[1]).error

    def search_again(row: int, scores: NDArray[np.float32], floor: NDArray[np.float64]) -> None:
        rank_row(asked, points, np.flatnonzero(scores >= floor), ranking, row)

    for start in range(0, len(uncertain), size):
        rows = uncertain[start : start + size]
        scores = asked[rows] @ points.T
        if groups is not None:
            scores[groups[rows, None] == groups] = -np.inf
        floor = ranking.last[rows].astype(np.float64) - error  # lower scores cannot be neighbours
        deque(resources.pool.map(search_again, rows, scores, floor[:, None]), maxlen=0)


def _report_recall(task: SearchTask, ranking: Ranking, first: int, stop: int) -> None:
    """Log which share of the true neighbours an approximate search has found, for a sample of rows [first, stop)."""
    rows = np.unique(np.linspace(first, stop - 1, _SAMPLE).astype(np.int64))
    scores = task.asked[rows] @ task.points.T
    if ranking.itself:
        scores[np.arange(len(rows)), rows] = np.inf
    true = np.argpartition(-scores, task.k - 1, axis=1)[:, : task.k]
    found = [len(np.intersect1d(*pair)) for pair in zip(true, ranking.neighbours[rows], strict=True)]
    logger.warning(
        "approximate search: %.2f %% of the true neighbours found, in a sample of %d of %d points",
        100 * sum(found) / true.size,
        len(rows),
        len(task.asked),
    )


@kernel
def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    """Inner product of two (D,) vectors, summed in double precision, rounded to float32. Allocates nothing."""
    total = 0.0
    for d in range(a.size):
        total += np.float64(a[d]) * np.float64(b[d])
    return np.float32(total)


@kernel
def insert(best: TopK, count: int, score: np.float32, index: int) -> int:
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
def rank(
    queries: NDArray[np.float32],
    points: NDArray[np.float32],
    candidates: NDArray[np.int32],
    ranking: Ranking,
    start: int,
    stop: int,
) -> None:
    """Rank the candidates (Q, M) of queries [start, stop). Allocates a list of K at a time."""
    for i in range(start, stop):
        rank_row(queries, points, candidates[i], ranking, i)


@kernel
def rank_row(
    queries: NDArray[np.float32], points: NDArray[np.float32], candidates: NDArray[Any], ranking: Ranking, i: int
) -> None:
    """Rank the candidates (M,) of query i by (-similarity, index), after the point itself. Allocates a list of K."""
    k = ranking.neighbours.shape[1]
    best = TopK(np.full(k, -np.inf, np.float32), np.full(k, -1, np.int32))
    count = 0
    if ranking.itself:
        count = insert(best, 0, np.float32(np.inf), i)
    for j in candidates:
        if j >= 0 and not (ranking.itself and j == i):
            count = insert(best, count, similarity(queries[i], points[j]), j)
    for p in range(k):
        ranking.neighbours[i, p] = best.indices[p]
    ranking.last[i] = best.scores[k - 1]


@kernel
def fill_similarities(points: NDArray[np.float32], rows: Rows, first: int) -> None:
    """Weights of row i <- similarity of point first + i with each index of the row. Allocates nothing."""
    for i in range(rows.indptr.size - 1):
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            rows.weights[p] = similarity(points[first + i], points[rows.indices[p]])
