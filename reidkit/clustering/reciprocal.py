"""k-reciprocal encoding of neighbour lists, the steps 1, 2 and 4 of `jaccard_graph`; the caller weighs the members."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.parallel import Resources, kernel, map_rows
from reidkit.clustering.sparse_rows import Rows, all_rows, empty_rows, reserve

__all__ = ["NeighbourLists", "encode"]

_MEMBER = 1
_ADDED = 2


class NeighbourLists(NamedTuple):
    """Neighbours of which the reciprocal sets are made."""

    neighbours: NDArray[np.int32]  # (N, K), among which reciprocal ones are sought; -1 where there are no more
    averaged: NDArray[np.int32]  # (N, K2), whose encodings are averaged; -1 where there are no more
    half: int  # size of the half lists that may join; 0: none does


class ReciprocalDepth(NamedTuple):
    """Neighbour lists, and how long the lists must be for two points to be each other's neighbours."""

    neighbours: NDArray[np.int32]  # (N, K), -1 where there are no more
    depth: NDArray[np.int32]  # (N, K): neighbours[i, p] is in S_k(i) for all k > depth[i, p]; K if in none


def encode(lists: NeighbourLists, weigh: Callable[[Rows, int], None], resources: Resources) -> Rows:
    """Encode every point by its expanded reciprocal set, averaged over its neighbours: the weights V.

    `weigh` sets the weights of the members of each set, given rows (of unset weights) and the first row's point.
    """
    n = len(lists.neighbours)
    reciprocal = ReciprocalDepth(lists.neighbours, np.empty_like(lists.neighbours))
    map_rows(resources.pool, partial(measure_depth, reciprocal), n)

    def weighted(start: int, stop: int) -> Rows:
        rows = expand(reciprocal, lists.half, start, stop)
        weigh(rows, start)
        return rows

    weights = all_rows(weighted, n, resources)
    if lists.averaged.shape[1] == 1:
        return weights
    return all_rows(partial(average, weights, lists.averaged), n, resources)


@kernel
def measure_depth(reciprocal: ReciprocalDepth, start: int, stop: int) -> None:
    """Fill depth for points [start, stop): max of the places of j in R(i) and of i in R(j); K where there is none.

    S_k(i) = { neighbours[i, p] : depth[i, p] < k }, for every k up to K. Allocates nothing.
    Two lists that share no point, of the same camera and of others, may stand one behind the other: if j is in one of
    the lists of i, then i can only be in the same one of j. So depth < K holds for the union of the reciprocal sets.
    """
    width = reciprocal.neighbours.shape[1]
    for i in range(start, stop):
        for p in range(width):
            j = reciprocal.neighbours[i, p]
            place = 0 if j >= 0 else width
            while place < width and reciprocal.neighbours[j, place] != i:
                place += 1
            reciprocal.depth[i, p] = max(p, place)


@kernel
def expand(reciprocal: ReciprocalDepth, half: int, start: int, stop: int) -> Rows:
    """E(i) for points [start, stop), unsorted; the weights are left unset.

    Allocates the rows, N bytes and a list of K (half + 1) or N.
    """
    n, width = reciprocal.neighbours.shape
    state = np.zeros(n, np.uint8)
    found = np.empty(min(width * (half + 1), n), np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = collect(reciprocal, half, i, state, found)
        rows = reserve(rows, used, count)
        for index in found[:count]:
            rows.indices[used] = index
            state[index] = 0
            used += 1
        rows.indptr[i - start + 1] = used
    return rows


@kernel
def collect(reciprocal: ReciprocalDepth, half: int, i: int, state: NDArray[np.uint8], found: NDArray[np.int32]) -> int:
    """List E(i) = S_k1(i) + { S_h(j) : j in S_k1(i), 3 |S_h(j) * S_k1(i)| > 2 |S_h(j)| } in found; return its size.

    state (N,) is all zero on entry and marks the members on return. Allocates nothing.
    """
    width = reciprocal.neighbours.shape[1]
    members = 0
    for p in range(width):
        j = reciprocal.neighbours[i, p]
        if reciprocal.depth[i, p] < width and state[j] == 0:
            state[j] = _MEMBER
            found[members] = j
            members += 1
    count = members
    for j in found[:members]:
        size = 0
        overlap = 0
        for p in range(half):
            if reciprocal.depth[j, p] < half:
                size += 1
                overlap += state[reciprocal.neighbours[j, p]] == _MEMBER
        if 3 * overlap > 2 * size:
            for p in range(half):
                other = reciprocal.neighbours[j, p]
                if reciprocal.depth[j, p] < half and state[other] == 0:
                    state[other] = _ADDED
                    found[count] = other
                    count += 1
    return count


@kernel
def average(weights: Rows, neighbours: NDArray[np.int32], start: int, stop: int) -> Rows:
    """Query expansion of points [start, stop): V_i <- mean of V_j over j >= 0 in neighbours[i] (N, k2), unsorted.

    Sums are in double precision. Allocates the rows, and N doubles and N integers to add them up.
    """
    n = len(neighbours)
    total = np.zeros(n, np.float64)
    found = np.empty(n, np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = 0
        given = 0
        for j in neighbours[i]:
            if j < 0:
                continue
            given += 1
            for p in range(weights.indptr[j], weights.indptr[j + 1]):
                index = weights.indices[p]
                if total[index] == 0:
                    found[count] = index
                    count += 1
                total[index] += np.float64(weights.weights[p])
        rows = reserve(rows, used, count)
        for index in found[:count]:
            rows.indices[used] = index
            rows.weights[used] = total[index] / given
            total[index] = 0
            used += 1
        rows.indptr[i - start + 1] = used
    return rows
