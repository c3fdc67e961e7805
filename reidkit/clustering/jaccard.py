"""k-reciprocal Jaccard distance as a sparse graph: only the pairs that are near enough, never N x N.

The equations are those of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017,
sections 3.2 to 3.4), in the form in which unsupervised re-identification uses them (Cluster Contrast, TransReID-SSL).
Rows of V sum to 1 and are sparse, and a distance is below 1 only where two supports meet: walking the columns of V
that meet the support of a point reaches every pair that any bound below 1 can keep.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reidkit.clustering.cameras import camera_groups, camera_neighbours
from reidkit.clustering.capacity import clustering_bytes, refuse_beyond_memory
from reidkit.clustering.checks import (
    check_distance,
    check_neighbourhood,
    real_rows,
    unit_rows,
)
from reidkit.clustering.jaccard_pairs import near_pairs
from reidkit.clustering.libraries import SearchTask
from reidkit.clustering.neighbours import fill_similarities, search
from reidkit.clustering.parallel import kernel, open_resources
from reidkit.clustering.reciprocal import NeighbourLists, encode
from reidkit.clustering.sparse_rows import Rows
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError

__all__ = ["jaccard_graph"]


def jaccard_graph(  # noqa: PLR0913
    X: Any,  # noqa: N803
    *,
    k1: int = 30,
    k2: int = 6,
    max_distance: float = 0.6,
    cameras: Any = None,
    k1_intra: int = 6,
    k1_inter: int = 21,
    k2_intra: int = 2,
    k2_inter: int = 4,
    neighbours: NDArray[np.integer[Any]] | None = None,
    backend: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    group: Any = None,
) -> "csr_array[np.float32, tuple[int, int]]":
    """Build the graph of k-reciprocal Jaccard distances, exactly the pairs with d <= max_distance.

    The steps for features x_i, L2-normalised here (they need not be before), with h = round(k1 / 2) + 1 rounding half
    to even and R_k(i) the k nearest neighbours of i, i itself being the first:

    1. S_k(i) = { j in R_k(i) : i in R_k(j) }.
    2. E(i) = S_k1(i), and S_h(j) for every j in S_k1(i) of whose S_h(j) more than 2/3 is in S_k1(i).
    3. V_ij = softmax over j in E(i) of -(2 - 2 x_i . x_j); zero elsewhere.
    4. V_i <- mean of V_j over the first k2 entries of R_k1(i).
    5. s_ij = sum over l of min(V_il, V_jl); d_ij = max(0, 1 - s_ij / (2 - s_ij)).

    With cameras (CA-Jaccard: Chen et al., CVPR 2024, section 3) the images of the same camera, i itself being the
    first, and those of other cameras are ranked apart, which replaces k1 and k2:

    * for 1 and 2: E(i) = S_k1_intra(i) of the first ranking and S_k1_inter(i) of the second; no set joins;
    * for 4: the mean over the first k2_intra of the one and the first k2_inter of the other, or what there is of them.

    An unknown camera (-1) counts as a camera of that image alone, so that the image has inter-camera neighbours only.
    A camera of fewer images gives a shorter list; none borrows from the other. The published settings are k1 5 and 20,
    of which the public code takes one more: 6, the image itself included, and 21 here. They go with an eps of 0.4 for
    Market-1501 and 0.6 for MSMT17.

    Distances and the bound are compared in float32. The graph is symmetric. Its diagonal is stored, as explicit zeros,
    like every other distance of zero (`eliminate_zeros` would lose them): the number of entries in a row is what
    DBSCAN counts, and `sklearn.cluster.DBSCAN(metric="precomputed")` takes the graph as it is.

    Args:
        X: (N, D) features of anything.
        k1: Neighbours of the reciprocal sets, the point itself included; more than N count as N.
        k2: Neighbours of the query expansion, at most k1; 1 turns it off.
        max_distance: Bound on the distances kept, in [0, 1).
        cameras: (N,) 0-based camera of each feature, -1 if unknown; None: cameras do not count.
        k1_intra: With cameras: neighbours of the same camera in the reciprocal sets, the point itself included.
        k1_inter: With cameras: neighbours of other cameras in the reciprocal sets.
        k2_intra: With cameras: neighbours of the same camera in the query expansion, the point itself included.
        k2_inter: With cameras: neighbours of other cameras in the query expansion, 0 or more.
        neighbours: (N, >= min(k1, N)) nearest neighbours from `nearest_neighbours`, to be searched here if None.
        backend: See `nearest_neighbours`; with cameras not "faiss".
        device: See `nearest_neighbours`.
        threads: See `nearest_neighbours`. The result does not depend on it.
        group: `torch.distributed` process group that shares the work: all its processes call with the same arguments
            and get the whole graph, bit for bit that of one process. The neighbours, V and the pairs of step 5 are
            shared out by rows; comparing lists and transposing, a small part, each process does itself.

    Returns:
        (N, N) float32, rows sorted.

    Raises:
        ClusteringError: Features or parameters outside the ranges above, too little memory (foreseen before the
            search, and again before the pairs are collected), or a group whose processes do not agree.
    """
    check_neighbourhood(k1, k2)
    check_neighbourhood(k1_intra, k2_intra, kind="_intra")
    check_neighbourhood(k1_inter, k2_inter, kind="_inter", least=0)
    bound = check_distance("max_distance", max_distance, zero=True)
    processes = ProcessGroup.of(group)
    dense = real_rows(X)
    given = None if neighbours is None else _given(neighbours, len(dense), k1)
    groups = None if cameras is None else camera_groups(cameras, len(dense))
    if given is not None and groups is not None:
        raise ClusteringError("neighbours were ranked over all cameras; pass either them or cameras, not both")
    counts = (k1, k2) if groups is None else (k1_intra + k1_inter, k2_intra + k2_inter)
    n, dimension = dense.shape
    refuse_beyond_memory(
        clustering_bytes(n, dimension, *counts, processes=processes.size),
        what=f"clustering {n:,} features of size {dimension:,} by {counts[0]:,} neighbours",
        remedy="cluster fewer images, lower k1",
        processes=processes,
    )
    with open_resources(threads, processes, backend=backend, device=device) as resources:
        points = unit_rows(dense)
        processes.check_same(points, given, groups, k1, k2, k1_intra, k1_inter, k2_intra, k2_inter, float(bound))
        if groups is not None:
            intra, inter = camera_neighbours(points, groups, k1_intra, k1_inter, resources)
            averaged = np.hstack([intra[:, :k2_intra], inter[:, :k2_inter]])
            lists = NeighbourLists(np.hstack([intra, inter]), averaged, half=0)
        else:
            nearest = search(SearchTask(points, k1), resources) if given is None else given
            averaged = np.ascontiguousarray(nearest[:, :k2])
            lists = NeighbourLists(nearest, averaged, half=min(round(k1 / 2) + 1, nearest.shape[1]))
        graph = near_pairs(encode(lists, partial(weigh, points), resources), bound, resources)
    indptr = graph.indptr if len(graph.indices) > np.iinfo(np.int32).max else graph.indptr.astype(np.int32)
    return csr_array((graph.weights, graph.indices, indptr), shape=(n, n))


def _given(neighbours: NDArray[np.integer[Any]], n: int, k1: int) -> NDArray[np.int32]:
    """Check neighbours that the caller breciprocal and cut them to k1 columns."""
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


def weigh(points: NDArray[np.float32], rows: Rows, first: int) -> None:
    """Step 3: weights of row i <- softmax over its points j of -(2 - 2 x_i . x_j), i counted from `first`."""
    fill_similarities(points, rows, first)
    softmax(rows)


@kernel
def softmax(rows: Rows) -> None:
    """Weights of each row <- softmax of -(2 - 2 weights), in double precision until stored. Allocates nothing."""
    for i in range(rows.indptr.size - 1):
        total = 0.0
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            total += np.exp(2.0 * np.float64(rows.weights[p]) - 2.0)
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            rows.weights[p] = np.exp(2.0 * np.float64(rows.weights[p]) - 2.0) / total
