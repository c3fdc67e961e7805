"""HDBSCAN on a sparse graph of distances: no N x N array, whatever components the graph has and however short its rows.

Campello et al., "Hierarchical Density Estimates for Data Clustering, Visualization, and Outlier Detection" (TKDD 2015),
sections 3 to 5. A pair that the graph does not hold is at distance 1, so the spanning tree is the spanning forest of
the graph, its trees joined by edges of 1. Mutual reachability makes equal edges the rule. What merges at one level
merges at once here, so the clusters depend neither on how a spanning tree breaks ties nor on the order of the points.
"""

from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.checks import check_count
from reidkit.clustering.density import measure_core
from reidkit.clustering.parallel import kernel, map_rows, worker_pool
from reidkit.clustering.sparse_rows import Rows, graph_rows

__all__ = ["hdbscan"]


class Growth(NamedTuple):
    """Trees of a growing forest, and each point's shortest edge out of its tree."""

    core: NDArray[np.float32]  # (N,) core distances
    tree: NDArray[np.int32]  # (N,), the point that stands for the point's tree
    target: NDArray[np.int32]  # (N,), the edge's other end: the point itself before any search, -1 if there is none
    weight: NDArray[np.float32]  # (N,), the edge's mutual reachability


class Edges(NamedTuple):
    """Edges of a spanning tree of N points, or, while it grows, room for them."""

    first: NDArray[np.int32]  # (N - 1,)
    second: NDArray[np.int32]  # (N - 1,)
    weight: NDArray[np.float32]  # (N - 1,)


class Pieces(NamedTuple):
    """Clusters while they merge, each found under the point that stands for it."""

    parent: NDArray[np.int32]  # (N,), the way to that point
    node: NDArray[np.int64]  # (N,), the cluster's number in the hierarchy
    size: NDArray[np.int64]  # (N,)
    head: NDArray[np.int64]  # (N,), the first of the pieces that make up the cluster; -1 between levels


def hdbscan(
    graph: Any, *, min_cluster_size: int, min_samples: int, threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cluster a graph of distances by the stability of its density levels.

    The hierarchy has the spanning-tree weights of the `hdbscan` package on the dense matrix, and clusters are selected
    by that package (excess of mass, never the whole set). Without ties the partition is the package's too. With ties
    the package splits one after the other, in the order of its sort, what parts at one level; here all of it parts at
    once: a point that first joins two clusters at the level at which they join each other is in neither, as in the
    definition (and as with the package's `match_reference_implementation`).

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
    with worker_pool(threads) as pool:
        core = np.empty(n, np.float32)
        map_rows(pool, partial(measure_core, rows, min(min_samples, n - 1), core), n)
        edges = spanning_tree(rows, core, pool)
    return _select(link(edges), min_cluster_size)


def spanning_tree(rows: Rows, core: NDArray[np.float32], pool: Executor) -> Edges:
    """Minimum spanning tree of the mutual reachability, sorted by weight; all weights below 1 are edges of the graph.

    Boruvka's algorithm: every tree of the forest takes its shortest edge to another one, until none has any. (scipy's
    `minimum_spanning_tree` loses edges of zero and wants the graph of mutual reachability in memory.)

    Args:
        rows: (N, N) distances, symmetric.
        core: (N,) core distances.
        pool: Threads.
    """
    n = len(core)
    growth = Growth(core, np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32), np.empty(n, np.float32))
    edges = Edges(np.empty(n - 1, np.int32), np.empty(n - 1, np.int32), np.ones(n - 1, np.float32))
    count, before = 0, -1
    while count > before:
        before = count
        map_rows(pool, partial(find_exits, rows, growth), n)
        count = merge(growth, edges, count)
    trees = np.flatnonzero(growth.tree == np.arange(n))
    edges.first[count:] = trees[0]
    edges.second[count:] = trees[1:]
    order = np.argsort(edges.weight, kind="stable")
    return Edges(edges.first[order], edges.second[order], edges.weight[order])


def _select(hierarchy: NDArray[np.float64], min_cluster_size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and strengths of the most stable clusters: the only place that uses private names of `hdbscan`."""
    from hdbscan import _hdbscan_tree as package

    condensed = package.condense_tree(hierarchy, min_cluster_size)
    found, strengths, _ = package.get_clusters(condensed, package.compute_stability(condensed))
    labels = np.full(len(found), -1, np.int64)
    members = np.flatnonzero(found >= 0)
    _, first, inverse = np.unique(found[members], return_index=True, return_inverse=True)
    labels[members] = np.argsort(np.argsort(first))[inverse]
    return labels, np.asarray(strengths, np.float64)


@kernel
def find_exits(rows: Rows, growth: Growth, start: int, stop: int) -> None:
    """Find the edge out of its tree with the smallest (m_ij, j), m_ij < 1, for the points i in [start, stop).

    m_ij = max(d_ij, core_i, core_j). An edge found before stands as long as it leads out. Allocates nothing.
    """
    for i in range(start, stop):
        known = growth.target[i]
        if known < 0 or growth.tree[known] != growth.tree[i]:
            continue
        weight = np.float32(1)
        target = -1
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            j = rows.indices[p]
            if growth.tree[j] != growth.tree[i]:
                m = max(rows.weights[p], growth.core[i], growth.core[j])
                if m < weight or (m == weight and j < target):
                    weight = m
                    target = j
        growth.target[i] = target
        growth.weight[i] = weight


@kernel
def merge(growth: Growth, edges: Edges, count: int) -> int:
    """Add each tree's shortest edge to the first `count` edges and unite the trees; return the new count.

    Allocates N integers.
    """
    shortest = np.full(growth.tree.size, -1, np.int32)
    for i in range(growth.tree.size):
        tree = growth.tree[i]
        if growth.target[i] >= 0 and (shortest[tree] < 0 or precedes(growth, i, shortest[tree])):
            shortest[tree] = i
    for tree in range(growth.tree.size):
        i = shortest[tree]
        if i >= 0 and unite(growth.tree, i, growth.target[i]):
            edges.first[count] = i
            edges.second[count] = growth.target[i]
            edges.weight[count] = growth.weight[i]
            count += 1
    for i in range(growth.tree.size):
        growth.tree[i] = find(growth.tree, i)
    return count


@kernel
def precedes(growth: Growth, i: int, j: int) -> bool:
    """Whether the edge of i is shorter than that of j; equal ones are ordered by their ends. Allocates nothing."""
    if growth.weight[i] != growth.weight[j]:
        return bool(growth.weight[i] < growth.weight[j])
    low, other_low = min(i, growth.target[i]), min(j, growth.target[j])
    if low != other_low:
        return bool(low < other_low)
    return bool(max(i, growth.target[i]) < max(j, growth.target[j]))


@kernel
def find(parent: NDArray[np.int32], i: int) -> int:
    """The point that stands for the set of i; halves the way to it. Allocates nothing."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


@kernel
def unite(parent: NDArray[np.int32], i: int, j: int) -> bool:
    """Unite the sets of i and j under the smaller point; return whether they were two. Allocates nothing."""
    a, b = find(parent, i), find(parent, j)
    parent[max(a, b)] = min(a, b)
    return a != b


@kernel
def link(edges: Edges) -> NDArray[np.float64]:
    """Hierarchy (N - 1, 4) of a spanning tree with sorted edges: both clusters that merge, distance, points.

    Clusters are numbered as in `scipy.cluster.hierarchy`. What merges at one distance grows from its largest piece on,
    larger pieces first. So nothing that first forms at a distance stands beside a cluster that it joins at that same
    distance. Allocates the result and 28 N bytes.
    """
    n = edges.first.size + 1
    points = np.arange(n)
    pieces = Pieces(points.astype(np.int32), points, np.ones(n, np.int64), np.full(n, -1, np.int64))
    hierarchy = np.empty((n - 1, 4), np.float64)
    stop = 0
    while stop < n - 1:
        start = stop
        while stop < n - 1 and edges.weight[stop] == edges.weight[start]:
            stop += 1
        hierarchy[start:stop, 2] = edges.weight[start]
        gathered = gather(pieces, edges, start, stop)
        for e in range(start, stop):
            unite(pieces.parent, edges.first[e], edges.second[e])
        grow(pieces, gathered, hierarchy, start)
    return hierarchy


@kernel
def gather(pieces: Pieces, edges: Edges, start: int, stop: int) -> NDArray[np.int64]:
    """The pieces that edges [start, stop) join, by falling size. Allocates them, and as many again to sort them."""
    found = np.empty(2 * (stop - start), np.int64)
    count = 0
    for e in range(start, stop):
        for end in (edges.first[e], edges.second[e]):
            piece = find(pieces.parent, end)
            if pieces.head[piece] < 0:
                pieces.head[piece] = piece
                found[count] = piece
                count += 1
    gathered = found[:count]
    pieces.head[gathered] = -1
    return gathered[np.argsort(-pieces.size[gathered], kind="mergesort")]


@kernel
def grow(pieces: Pieces, gathered: NDArray[np.int64], hierarchy: NDArray[np.float64], row: int) -> None:
    """Merge the gathered pieces of each cluster, in their order, into its first; write rows from `row` on.

    Allocates nothing.
    """
    n = pieces.parent.size
    for piece in gathered:
        cluster = find(pieces.parent, piece)
        head = pieces.head[cluster]
        if head < 0:
            pieces.head[cluster] = piece
            continue
        hierarchy[row, 0] = pieces.node[head]
        hierarchy[row, 1] = pieces.node[piece]
        pieces.size[head] += pieces.size[piece]
        pieces.node[head] = n + row
        hierarchy[row, 3] = pieces.size[head]
        row += 1
    for piece in gathered:
        cluster = find(pieces.parent, piece)
        head = pieces.head[cluster]
        if head >= 0:
            pieces.node[cluster] = pieces.node[head]
            pieces.size[cluster] = pieces.size[head]
            pieces.head[cluster] = -1
