"""HDBSCAN on a sparse graph of distances, connected or not, without an N x N array.

Campello et al., "Hierarchical Density Estimates for Data Clustering, Visualization, and Outlier Detection" (TKDD 2015),
sections 3 to 5. A pair that the graph does not hold is at distance 1, so the spanning tree is the spanning forest of
the graph, its trees joined by edges of 1. Mutual reachability makes many edges equal. All that merges at one level
merges at once here, so the clusters depend neither on how a spanning tree breaks ties nor on the order of the points.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from reidkit.clustering.checks import check_count
from reidkit.clustering.density import measure_core
from reidkit.clustering.parallel import kernel, map_rows, open_resources
from reidkit.clustering.sparse_rows import Rows, graph_rows

__all__ = ["hdbscan"]


class Edges(NamedTuple):
    """Edges of a spanning tree of N points, by rising weight."""

    first: NDArray[np.int32]  # (N - 1,)
    second: NDArray[np.int32]  # (N - 1,)
    weight: NDArray[np.float32]  # (N - 1,)


class MergingClusters(NamedTuple):
    """Clusters of N points while they merge, each stored at its representative, one of its points."""

    parent: NDArray[np.int32]  # (N,), the next point on the way to the representative
    node: NDArray[np.int64]  # (N,), the cluster's number in the hierarchy
    size: NDArray[np.int64]  # (N,)
    head: NDArray[np.int64]  # (N,), the first of the clusters that merge at this level; -1 between levels


def hdbscan(
    graph: Any, *, min_cluster_size: int, min_samples: int, threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cluster a graph of distances by the stability of its density levels.

    The hierarchy has the spanning-tree weights of the `hdbscan` package on the dense matrix, and clusters are selected
    by that package (excess of mass, never the whole set). Without ties the partition is the package's too. With ties
    the package splits the clusters of one level one after the other, in the order of its sort; here they split at once:
    a point that first joins two clusters at the level at which they join each other is in neither, as in the definition
    (and as with the package's `match_reference_implementation`).

    Args:
        graph: (N, N) sparse distances in [0, 1], symmetric: `jaccard_graph` with a `max_distance` just below 1, or
            lower where pairs beyond it may count as unrelated. Explicit zeros are distances of zero. Pairs that are
            not stored are at distance 1.
        min_cluster_size: Fewest points of a cluster, at least 2.
        min_samples: A point's core distance is that to its min_samples-th nearest other point (to the farthest where
            there are fewer), at least 1. As in the `hdbscan` package and unlike DBSCAN the point itself does not count.
        threads: Threads; None takes every core. The result does not depend on it.

    Returns:
        (N,) labels, numbered by their smallest point, -1 is noise; (N,) strength of the membership in [0, 1], 0 for
        noise: the smallest distance at which the cluster still holds together over that at which the point leaves it.
        Where that smallest distance is zero, all members that are at no distance of zero have strength 0.

    Raises:
        ClusteringError: The graph is not a square sparse matrix of distances in [0, 1], or a parameter is outside its
            range.
    """
    check_count("min_cluster_size", min_cluster_size, least=2)
    check_count("min_samples", min_samples)
    rows = graph_rows(graph, largest=1)
    n = len(rows.indptr) - 1
    if n < 2:
        return np.full(n, -1, np.int64), np.zeros(n)
    with open_resources(threads) as resources:
        core = np.empty(n, np.float32)
        map_rows(resources.pool, partial(measure_core, rows, min(min_samples, n - 1), core), n)
    return _select(link(spanning_tree(rows, core)), min_cluster_size)


def spanning_tree(rows: Rows, core: NDArray[np.float32]) -> Edges:
    """Minimum spanning tree of the mutual reachability m_ij = max(d_ij, core_i, core_j), sorted by weight.

    Trees of its forest are joined by edges of 1. (scipy takes a weight of zero for no edge, so weights are raised by 1,
    in double precision, in which that loses nothing.)

    Args:
        rows: (N, N) distances, symmetric.
        core: (N,) core distances.
    """
    n, lengths = len(core), np.diff(rows.indptr)
    reach = np.maximum(np.repeat(core, lengths), np.maximum(core[rows.indices], rows.weights))
    graph = csr_array((reach.astype(np.float64) + 1, rows.indices, rows.indptr), shape=(n, n))
    forest = minimum_spanning_tree(graph, overwrite=True).tocoo()
    _, trees = np.unique(connected_components(forest, directed=False)[1], return_index=True)
    weight = np.append(forest.data - 1, np.ones(len(trees) - 1)).astype(np.float32)
    order = np.argsort(weight, kind="stable")
    first = np.append(forest.row, np.full(len(trees) - 1, trees[0])).astype(np.int32)
    second = np.append(forest.col, trees[1:]).astype(np.int32)
    return Edges(first[order], second[order], weight[order])


def _select(hierarchy: NDArray[np.float64], min_cluster_size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and strengths of the most stable clusters: the only use of private names of `hdbscan`."""
    from hdbscan import _hdbscan_tree as package

    condensed = package.condense_tree(hierarchy, min_cluster_size)
    found, strengths, _ = package.get_clusters(condensed, package.compute_stability(condensed))
    labels = np.full(len(found), -1, np.int64)
    members = np.flatnonzero(found >= 0)
    _, first, inverse = np.unique(found[members], return_index=True, return_inverse=True)
    labels[members] = np.argsort(np.argsort(first))[inverse]
    return labels, np.asarray(strengths, np.float64)


@kernel
def find(parent: NDArray[np.int32], i: int) -> int:
    """Representative of the set of i; halves the way to it. Allocates nothing."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


@kernel
def link(edges: Edges) -> NDArray[np.float64]:
    """Hierarchy (N - 1, 4) of a spanning tree with sorted edges: both clusters that merge, distance, points.

    Clusters are numbered as in `scipy.cluster.hierarchy`. Clusters that merge at one distance are added to the largest
    of them, by falling size. So none that first forms at a distance is a sibling of one that it joins at that distance.
    Allocates the result and 28 N bytes.
    """
    n = edges.first.size + 1
    points = np.arange(n)
    clusters = MergingClusters(points.astype(np.int32), points, np.ones(n, np.int64), np.full(n, -1, np.int64))
    hierarchy = np.empty((n - 1, 4), np.float64)
    stop = 0
    while stop < n - 1:
        start = stop
        while stop < n - 1 and edges.weight[stop] == edges.weight[start]:
            stop += 1
        hierarchy[start:stop, 2] = edges.weight[start]
        gathered = gather(clusters, edges, start, stop)
        for e in range(start, stop):
            a, b = find(clusters.parent, edges.first[e]), find(clusters.parent, edges.second[e])
            clusters.parent[max(a, b)] = min(a, b)
        merge(clusters, gathered, hierarchy, start)
    return hierarchy


@kernel
def gather(clusters: MergingClusters, edges: Edges, start: int, stop: int) -> NDArray[np.int64]:
    """Representatives of the clusters that edges [start, stop) join, by falling size. Allocates them twice."""
    found = np.empty(2 * (stop - start), np.int64)
    count = 0
    for e in range(start, stop):
        for end in (edges.first[e], edges.second[e]):
            member = find(clusters.parent, end)
            if clusters.head[member] < 0:
                clusters.head[member] = member
                found[count] = member
                count += 1
    gathered = found[:count]
    clusters.head[gathered] = -1
    return gathered[np.argsort(-clusters.size[gathered], kind="mergesort")]


@kernel
def merge(clusters: MergingClusters, gathered: NDArray[np.int64], hierarchy: NDArray[np.float64], row: int) -> None:
    """Merge the gathered clusters that have become one, in their order, into the first; write rows from `row` on.

    Allocates nothing.
    """
    n = clusters.parent.size
    for member in gathered:
        cluster = find(clusters.parent, member)
        head = clusters.head[cluster]
        if head < 0:
            clusters.head[cluster] = member
            continue
        hierarchy[row, 0] = clusters.node[head]
        hierarchy[row, 1] = clusters.node[member]
        clusters.size[head] += clusters.size[member]
        clusters.node[head] = n + row
        hierarchy[row, 3] = clusters.size[head]
        row += 1
    for member in gathered:
        cluster = find(clusters.parent, member)
        head = clusters.head[cluster]
        if head >= 0:
            clusters.node[cluster] = clusters.node[head]
            clusters.size[cluster] = clusters.size[head]
            clusters.head[cluster] = -1
