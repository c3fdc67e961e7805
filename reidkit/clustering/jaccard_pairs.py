"""Step 5 of the Jaccard graph: the pairs whose encodings overlap enough, found along the columns that they share."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.capacity import graph_bytes, refuse_beyond_memory
from reidkit.clustering.parallel import Resources, kernel, map_rows, open_resources
from reidkit.clustering.reciprocal import NeighbourLists, encode
from reidkit.clustering.sparse_rows import Rows, all_rows, empty_rows, join, reserve, transpose
from reidkit.distributed import ProcessGroup

__all__ = ["jaccard_rows", "near_pairs"]

_SAMPLE = 64


def near_pairs(weights: Rows, bound: np.float32, resources: Resources) -> Rows:
    """All pairs of the weights V (N rows) within the bound, in both directions, and the diagonal.

    Raises:
        ClusteringError: There is too little memory for the pairs.
    """
    columns = transpose(weights)
    del weights
    weights = transpose(columns)  # the same rows, sorted
    _check_memory(weights, columns, bound, resources.processes)
    upper = all_rows(partial(pairs, weights, columns, bound), len(weights.indptr) - 1, resources)
    del weights, columns  # the joined graph needs their memory
    lower = transpose(upper)
    upper = transpose(lower)
    return join(lower, upper)


def jaccard_rows(
    lists: NeighbourLists, weigh: Callable[[Rows, int], None], queries: int, *, rows: int
) -> Iterator[NDArray[np.float32]]:
    """Jaccard distances of the first Q of N points to all others, by `encode`; a few rows of (Q, N - Q) at a time.

    Args:
        lists: Neighbours of all N points.
        weigh: See `encode`.
        queries: Q.
        rows: Rows of a block.
    """
    with open_resources(None) as resources:
        weights = encode(lists, weigh, resources)
        columns = transpose(weights)
        for first in range(0, queries, rows):
            block = np.empty((min(rows, queries - first), len(lists.neighbours) - queries), np.float32)
            map_rows(resources.pool, partial(fill_distances, weights, columns, first, block), len(block), smallest=16)
            yield block


def _check_memory(weights: Rows, columns: Rows, bound: np.float32, processes: ProcessGroup) -> None:
    """Refuse a graph that the memory cannot hold, estimated from the pairs of a few rows.

    How many pairs are near depends on the features: where they have all become alike, nearly all N^2 / 2 are.
    """
    n = len(weights.indptr) - 1
    sample = np.unique(np.linspace(0, n - 1, _SAMPLE).astype(np.int64)).tolist()
    found = sum(int(pairs(weights, columns, bound, i, i + 1).indptr[-1]) for i in sample)
    expected = found * n // len(sample)
    refuse_beyond_memory(
        graph_bytes(n, len(weights.indices), expected),
        what=f"the graph of {n:,} features, with about {expected:,} pairs within a distance of {bound:g},",
        remedy="look whether the features have all become alike, cluster fewer images, lower k1 or the bound (eps)",
        processes=processes,
    )


@kernel
def pairs(weights: Rows, columns: Rows, bound: np.float32, start: int, stop: int) -> Rows:
    """Points j > i with d_ij <= bound for points i in [start, stop), unsorted, with d_ij.

    s_ij = sum over l of min(V_il, V_jl), in double precision: points of few neighbours have distances that are simple
    fractions, 1/2 among them, and must not fall off an eps of 0.5 by rounding. Allocates the rows, and N doubles and N
    integers to add them up.
    """
    overlap = np.zeros(weights.indptr.size - 1, np.float64)
    found = np.empty(overlap.size, np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = meet(weights, columns, i, i, overlap, found)
        rows = reserve(rows, used, count)
        for j in found[:count]:
            d = distance(overlap[j])
            overlap[j] = 0
            if d <= bound:
                rows.indices[used] = j
                rows.weights[used] = d
                used += 1
        rows.indptr[i - start + 1] = used
    return rows


@kernel
def fill_distances(weights: Rows, columns: Rows, first: int, block: NDArray[np.float32], start: int, stop: int) -> None:
    """block_im <- distance of point first + i to point N - M + m, for rows i in [start, stop) of the block (B, M).

    Allocates N doubles and N integers.
    """
    overlap = np.zeros(weights.indptr.size - 1, np.float64)
    found = np.empty(overlap.size, np.int32)
    before = overlap.size - block.shape[1]
    for i in range(start, stop):
        block[i] = 1
        for j in found[: meet(weights, columns, first + i, before - 1, overlap, found)]:
            block[i, j - before] = distance(overlap[j])
            overlap[j] = 0


@kernel
def meet(
    weights: Rows, columns: Rows, i: int, last: int, overlap: NDArray[np.float64], found: NDArray[np.int32]
) -> int:
    """Add up s_ij in overlap (N,) for all j > last that meet i, list them in found; return the count.

    Allocates nothing.
    """
    count = 0
    for p in range(weights.indptr[i], weights.indptr[i + 1]):
        column = weights.indices[p]
        for q in range(columns.indptr[column + 1] - 1, columns.indptr[column] - 1, -1):
            j = columns.indices[q]
            if j <= last:
                break
            if overlap[j] == 0:
                found[count] = j
                count += 1
            overlap[j] += np.float64(min(weights.weights[p], columns.weights[q]))
    return count


@kernel
def distance(overlap: np.float64) -> np.float32:
    """Jaccard distance, max(0, 1 - s / (2 - s)), of the overlap s, rounded to float32. Allocates nothing."""
    return np.float32(max(0.0, 1.0 - overlap / (2.0 - overlap)))
