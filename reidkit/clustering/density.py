"""Density around each image, as DBSCAN and HDBSCAN measure it: the distance to one of its nearest images."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.checks import check_count
from reidkit.clustering.parallel import kernel, map_rows, open_resources
from reidkit.clustering.sparse_rows import Rows, graph_rows

__all__ = ["core_distances", "measure_core"]


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
