"""DBSCAN on a sparse graph of distances, in O(edges), with scikit-learn's labels.

Ester et al., "A Density-Based Algorithm for Discovering Clusters" (KDD 1996).
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.checks import check_count, check_distance
from reidkit.clustering.parallel import kernel, map_rows, open_resources
from reidkit.clustering.sparse_rows import Rows, graph_rows

__all__ = ["core_distances", "dbscan", "measure_core"]


def dbscan(graph: Any, *, eps: float, min_samples: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cluster a graph of distances by density; labels and numbering are scikit-learn's.

    A core point has at least `min_samples` points within `eps`, itself included whether or not the diagonal is stored.
    Clusters are numbered by their smallest core point. A border point joins the first cluster that reaches it, which
    is the one of the smallest number. Pairs that are not stored are farther than eps.

    Args:
        graph: (N, N) sparse distances, symmetric, holding every pair within eps: for a graph from `jaccard_graph`,
            eps must not exceed its `max_distance`. Explicit zeros are distances of zero.
        eps: Largest distance of neighbours, in (0, 1), compared in float32.
        min_samples: Points within eps that make a core point, at least 1.

    Returns:
        (N,) labels, -1 is noise; (N,) mask of the core points.

    Raises:
        ClusteringError: The graph is not a square sparse matrix of non-negative distances, or a parameter is outside
            its range.
    """
    bound = check_distance("eps", eps)
    check_count("min_samples", min_samples)
    rows = graph_rows(graph)
    core = find_core(rows, bound, min_samples)
    return spread_labels(rows, bound, core), core


def core_distances(graph: Any, min_samples: int, *, threads: int | None = None) -> NDArray[np.float32]:
    """Distance of each image to its `min_samples`-th nearest, itself the first: the eps from which it is a core point.

    Sorted, these are the k-distance curve of Ester et al., "A Density-Based Algorithm for Discovering Clusters"
    (KDD 1996, section 4.2).

    Args:
        graph: (N, N) sparse distances, such as `jaccard_graph` returns.
        min_samples: Images that make a core point, at least 1.
        threads: Threads; None takes every core. The result is the same.

    Returns:
        (N,) distances; 1 where the graph does not reach as far.

    Raises:
        ClusteringError: Not a square sparse graph, or `min_samples` < 1.
    """
    check_count("min_samples", min_samples)
    rows = graph_rows(graph, largest=1)
    distances = np.zeros(len(rows.indptr) - 1, np.float32)
    if min_samples > 1:
        with open_resources(threads) as resources:
            map_rows(resources.pool, partial(measure_core, rows, min_samples - 1, distances), len(distances))
    return distances


@kernel
def find_core(rows: Rows, eps: np.float32, min_samples: int) -> NDArray[np.bool_]:
    """core_i = 1 + |{ j != i : d_ij <= eps }| >= min_samples. Allocates the mask (N,)."""
    n = rows.indptr.size - 1
    core = np.empty(n, np.bool_)
    for i in range(n):
        count = 1
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            count += rows.weights[p] <= eps and rows.indices[p] != i
        core[i] = count >= min_samples
    return core


@kernel
def spread_labels(rows: Rows, eps: np.float32, core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Spread one label after the other from the first unlabelled core point, through core points.

    Allocates the labels (N,) and a stack of N.
    """
    labels = np.full(core.size, -1, np.int64)
    stack = np.empty(core.size, np.int64)
    cluster = 0
    for seed in range(core.size):
        if not core[seed] or labels[seed] >= 0:
            continue
        labels[seed] = cluster
        stack[0] = seed
        height = 1
        while height > 0:
            height -= 1
            i = stack[height]
            for p in range(rows.indptr[i], rows.indptr[i + 1]):
                j = rows.indices[p]
                if rows.weights[p] <= eps and labels[j] < 0:
                    labels[j] = cluster
                    if core[j]:
                        stack[height] = j
                        height += 1
        cluster += 1
    return labels


@kernel
def measure_core(rows: Rows, rank: int, core: NDArray[np.float32], start: int, stop: int) -> None:
    """core_i = the rank-th smallest distance to j != i, 1 where it is not stored, for points i in [start, stop).

    Allocates a list of `rank`.
    """
    nearest = np.empty(rank, np.float32)
    for i in range(start, stop):
        nearest[:] = 1
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            if rows.indices[p] == i or rows.weights[p] >= nearest[rank - 1]:
                continue
            place = rank - 1
            while place > 0 and nearest[place - 1] > rows.weights[p]:
                nearest[place] = nearest[place - 1]
                place -= 1
            nearest[place] = rows.weights[p]
        core[i] = nearest[rank - 1]
