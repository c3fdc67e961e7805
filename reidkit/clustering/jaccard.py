"""k-reciprocal Jaccard distance as a sparse graph: only the pairs that are near enough, never N x N.

The equations are those of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017,
sections 3.2 to 3.4), in the form in which unsupervised re-identification uses them (Cluster Contrast, TransReID-SSL).
Rows of V sum to 1 and are sparse, and a distance is below 1 only where two supports meet: walking the columns of V
that meet the support of a point reaches every pair that any bound below 1 can keep.
"""

from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reidkit.clustering.checks import check_distance, check_neighbourhood, unit_rows
from reidkit.clustering.neighbours import fill_similarities, search
from reidkit.clustering.parallel import kernel, map_rows, worker_pool
from reidkit.clustering.rows import Rows, stack
from reidkit.errors import ClusteringError

__all__ = ["jaccard_graph"]

_MEMBER = 1
_ADDED = 2


class Rings(NamedTuple):
    """Neighbour lists and how far one must go along them for two points to be each other's neighbours."""

    neighbours: NDArray[np.int32]  # (N, K), the point itself first
    depth: NDArray[np.int32]  # (N, K): neighbours[i, p] is in S_k(i) for all k > depth[i, p]; K if in none


def jaccard_graph(
    X: Any,  # noqa: N803
    *,
    k1: int = 30,
    k2: int = 6,
    max_distance: float = 0.6,
    neighbours: NDArray[np.integer[Any]] | None = None,
    backend: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
) -> "csr_array[np.float32, tuple[int, int]]":
    """Build the graph of k-reciprocal Jaccard distances, exactly the pairs with d <= max_distance.

    The steps for features x_i, L2-normalised here (they need not be before), with h = round(k1 / 2) + 1 rounding half
    to even and R_k(i) the k nearest neighbours of i, i itself being the first:

    1. S_k(i) = { j in R_k(i) : i in R_k(j) }.
    2. E(i) = S_k1(i), and S_h(j) for every j in S_k1(i) of whose S_h(j) more than 2/3 lies in S_k1(i).
    3. V_ij = softmax over j in E(i) of -(2 - 2 x_i . x_j); zero elsewhere.
    4. V_i <- mean of V_j over the first k2 entries of R_k1(i).
    5. s_ij = sum over l of min(V_il, V_jl); d_ij = max(0, 1 - s_ij / (2 - s_ij)).

    Distances and the bound are compared in float32. The graph is symmetric. Its diagonal is stored, as explicit zeros,
    like every other distance of zero (`eliminate_zeros` would lose them): the number of entries in a row is what
    DBSCAN counts, and `sklearn.cluster.DBSCAN(metric="precomputed")` takes the graph as it is.

    Args:
        X: (N, D) features of anything.
        k1: Neighbours of the reciprocal sets, the point itself included; more than N count as N.
        k2: Neighbours of the query expansion, at most k1; 1 turns it off.
        max_distance: Bound on the distances kept, in [0, 1).
        neighbours: (N, >= min(k1, N)) nearest neighbours from `nearest_neighbours`, to be searched here if None.
        backend: See `nearest_neighbours`.
        device: See `nearest_neighbours`.
        threads: See `nearest_neighbours`. The result does not depend on it.

    Returns:
        (N, N) float32, rows sorted.

    Raises:
        ClusteringError: Features or parameters outside the ranges above.
    """
    check_neighbourhood(k1, k2)
    bound = check_distance("max_distance", max_distance, zero=True)
    with worker_pool(threads) as pool:
        points = unit_rows(X)
        if neighbours is None:
            nearest = search(points, k1, backend=backend, device=device, pool=pool)
        else:
            nearest = _given(neighbours, len(points), k1)
        graph = _near_pairs(_encode(points, nearest, k1, k2, pool), bound, pool)
    n = len(points)
    indptr = graph.indptr if len(graph.indices) > np.iinfo(np.int32).max else graph.indptr.astype(np.int32)
    return csr_array((graph.weights, graph.indices, indptr), shape=(n, n))


def _given(neighbours: NDArray[np.integer[Any]], n: int, k1: int) -> NDArray[np.int32]:
    """Check neighbours that the caller brings and cut them to k1 columns."""
    k = min(k1, n)
    given = np.asarray(neighbours)
    if given.ndim != 2 or given.shape[0] != n or given.shape[1] < k or given.dtype.kind not in "iu":
        raise ClusteringError(
            f"neighbours of shape {given.shape} and type {given.dtype} do not fit {n:,} features and k1={k1}; "
            f"pass nearest_neighbours(X, {k1})"
        )
    nearest = np.ascontiguousarray(given[:, :k], np.int32)
    if (nearest[:, 0] != np.arange(n)).any() or nearest.min() < 0 or nearest.max() >= n:
        raise ClusteringError(
            f"neighbours must be row numbers from 0 to {n - 1:,}, each point being its own first neighbour; "
            f"pass nearest_neighbours(X, {k1})"
        )
    return nearest


def _encode(points: NDArray[np.float32], neighbours: NDArray[np.int32], k1: int, k2: int, pool: Executor) -> Rows:
    """Steps 1 to 4: the weights V."""
    n = len(points)
    half = min(round(k1 / 2) + 1, neighbours.shape[1])
    rings = Rings(neighbours, np.empty_like(neighbours))
    map_rows(pool, partial(measure_depth, rings), n)

    def weigh(start: int, stop: int) -> Rows:
        rows = expand(rings, half, start, stop)
        fill_similarities(points, rows, start)
        softmax(rows)
        return rows

    weights = stack(map_rows(pool, weigh, n))
    if k2 == 1:
        return weights
    nearest = np.ascontiguousarray(neighbours[:, :k2])
    return stack(map_rows(pool, partial(average, weights, nearest), n))


def _near_pairs(weights: Rows, bound: np.float32, pool: Executor) -> Rows:
    """Step 5: all pairs within the bound, both ways round, and the diagonal."""
    columns = transpose(weights)
    weights = transpose(columns)  # to sort the rows
    upper = stack(map_rows(pool, partial(pairs, weights, columns, bound), len(weights.indptr) - 1))
    lower = transpose(upper)
    return join(lower, transpose(lower))


@kernel
def measure_depth(rings: Rings, start: int, stop: int) -> None:
    """Fill depth for points [start, stop): max of the places of j in R(i) and of i in R(j); K where there is none.

    S_k(i) = { neighbours[i, p] : depth[i, p] < k }, for every k up to K. Allocates nothing.
    """
    width = rings.neighbours.shape[1]
    for i in range(start, stop):
        for p in range(width):
            j = rings.neighbours[i, p]
            place = 0
            while place < width and rings.neighbours[j, place] != i:
                place += 1
            rings.depth[i, p] = max(p, place)


@kernel
def expand(rings: Rings, half: int, start: int, stop: int) -> Rows:
    """E(i) for points [start, stop), unsorted; the weights are left unset.

    Allocates the rows, N bytes and a list of K (half + 1) or N.
    """
    n, width = rings.neighbours.shape
    state = np.zeros(n, np.uint8)
    found = np.empty(min(width * (half + 1), n), np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = collect(rings, half, i, state, found)
        rows = reserve(rows, used, count)
        for index in found[:count]:
            rows.indices[used] = index
            state[index] = 0
            used += 1
        rows.indptr[i - start + 1] = used
    return rows


@kernel
def collect(rings: Rings, half: int, i: int, state: NDArray[np.uint8], found: NDArray[np.int32]) -> int:
    """List E(i) = S_k1(i) + { S_h(j) : j in S_k1(i), 3 |S_h(j) * S_k1(i)| > 2 |S_h(j)| } in found; return its size.

    state (N,) is all zero on entry and marks the members on return. Allocates nothing.
    """
    width = rings.neighbours.shape[1]
    members = 0
    for p in range(width):
        j = rings.neighbours[i, p]
        if rings.depth[i, p] < width and state[j] == 0:
            state[j] = _MEMBER
            found[members] = j
            members += 1
    count = members
    for j in found[:members]:
        size = 0
        overlap = 0
        for p in range(half):
            if rings.depth[j, p] < half:
                size += 1
                overlap += state[rings.neighbours[j, p]] == _MEMBER
        if 3 * overlap > 2 * size:
            for p in range(half):
                other = rings.neighbours[j, p]
                if rings.depth[j, p] < half and state[other] == 0:
                    state[other] = _ADDED
                    found[count] = other
                    count += 1
    return count


@kernel
def softmax(rows: Rows) -> None:
    """Weights of each row <- softmax of -(2 - 2 weights), in double precision until stored. Allocates nothing."""
    for i in range(rows.indptr.size - 1):
        total = 0.0
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            total += np.exp(2.0 * np.float64(rows.weights[p]) - 2.0)
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            rows.weights[p] = np.exp(2.0 * np.float64(rows.weights[p]) - 2.0) / total


@kernel
def average(weights: Rows, neighbours: NDArray[np.int32], start: int, stop: int) -> Rows:
    """Query expansion of points [start, stop): V_i <- mean of V_j over j in neighbours[i] (N, k2), unsorted.

    Allocates the rows, and N floats and N integers to add them up.
    """
    n, width = neighbours.shape
    total = np.zeros(n, np.float32)
    found = np.empty(n, np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = 0
        for j in neighbours[i]:
            for p in range(weights.indptr[j], weights.indptr[j + 1]):
                index = weights.indices[p]
                if total[index] == 0:
                    found[count] = index
                    count += 1
                total[index] += weights.weights[p]
        rows = reserve(rows, used, count)
        for index in found[:count]:
            rows.indices[used] = index
            rows.weights[used] = total[index] / np.float32(width)
            total[index] = 0
            used += 1
        rows.indptr[i - start + 1] = used
    return rows


@kernel
def transpose(rows: Rows) -> Rows:
    """The columns of a square matrix of sparse rows, each sorted by row. Allocates the columns."""
    n = rows.indptr.size - 1
    size = rows.indptr[n]
    columns = Rows(np.zeros(n + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32))
    for index in rows.indices[:size]:
        columns.indptr[index + 1] += 1
    for column in range(n):
        columns.indptr[column + 1] += columns.indptr[column]
    place = columns.indptr[:-1].copy()
    for i in range(n):
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            column = rows.indices[p]
            columns.indices[place[column]] = i
            columns.weights[place[column]] = rows.weights[p]
            place[column] += 1
    return columns


@kernel
def pairs(weights: Rows, columns: Rows, bound: np.float32, start: int, stop: int) -> Rows:
    """Points j > i with d_ij <= bound for points i in [start, stop), unsorted, with d_ij.

    s_ij = sum over l of min(V_il, V_jl), in the order of row i. Allocates the rows, and N floats and N integers to add
    them up.
    """
    overlap = np.zeros(weights.indptr.size - 1, np.float32)
    found = np.empty(overlap.size, np.int32)
    rows = empty_rows(stop - start)
    used = 0
    for i in range(start, stop):
        count = meet(weights, columns, i, overlap, found)
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
def meet(weights: Rows, columns: Rows, i: int, overlap: NDArray[np.float32], found: NDArray[np.int32]) -> int:
    """Add up s_ij in overlap (N,) for all j > i that meet i, list them in found; return how many. Allocates nothing."""
    count = 0
    for p in range(weights.indptr[i], weights.indptr[i + 1]):
        column = weights.indices[p]
        for q in range(columns.indptr[column + 1] - 1, columns.indptr[column] - 1, -1):
            j = columns.indices[q]
            if j <= i:
                break
            if overlap[j] == 0:
                found[count] = j
                count += 1
            overlap[j] += min(weights.weights[p], columns.weights[q])
    return count


@kernel
def distance(overlap: np.float32) -> np.float32:
    """Jaccard distance, max(0, 1 - s / (2 - s)), of the overlap s, in float32. Allocates nothing."""
    return max(np.float32(0), np.float32(1) - overlap / (np.float32(2) - overlap))


@kernel
def join(lower: Rows, upper: Rows) -> Rows:
    """Put the two triangles of a symmetric matrix together with its diagonal of zeros. Allocates the result."""
    n = lower.indptr.size - 1
    size = lower.indptr[n] + n + upper.indptr[n]
    full = Rows(np.zeros(n + 1, np.int64), np.empty(size, np.int32), np.zeros(size, np.float32))
    used = 0
    for i in range(n):
        for p in range(lower.indptr[i], lower.indptr[i + 1]):
            full.indices[used] = lower.indices[p]
            full.weights[used] = lower.weights[p]
            used += 1
        full.indices[used] = i
        used += 1
        for p in range(upper.indptr[i], upper.indptr[i + 1]):
            full.indices[used] = upper.indices[p]
            full.weights[used] = upper.weights[p]
            used += 1
        full.indptr[i + 1] = used
    return full


@kernel
def empty_rows(count: int) -> Rows:
    """Rows without entries. Allocates their pointers."""
    return Rows(np.zeros(count + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


@kernel
def reserve(rows: Rows, used: int, more: int) -> Rows:
    """Rows with room for `more` entries after the first `used`. Allocates twice the need when it has to."""
    if used + more <= rows.indices.size:
        return rows
    indices = np.empty(2 * (used + more), np.int32)
    weights = np.empty(2 * (used + more), np.float32)
    for p in range(used):
        indices[p] = rows.indices[p]
        weights[p] = rows.weights[p]
    return Rows(rows.indptr, indices, weights)
