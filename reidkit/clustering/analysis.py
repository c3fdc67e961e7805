"""Clustering step by step, for callers that report each step or try several parameters on one graph."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reidkit.clustering.config import ClusteringConfig
from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.estimators import JaccardHDBSCAN
from reidkit.clustering.hdbscan import hdbscan
from reidkit.clustering.jaccard import jaccard_graph
from reidkit.clustering.neighbours import nearest_neighbours
from reidkit.clustering.suggestion import EPS_TRIALS

__all__ = ["FeatureGraph", "build_graph", "cluster_graph"]


class FeatureGraph(NamedTuple):
    """Jaccard graph of features, up to the distance that a clustering needs."""

    distances: "csr_array[np.float32, tuple[int, int]]"
    """(N, N), as `jaccard_graph` returns them."""
    max_distance: float
    """Largest distance that it holds."""


def build_graph(
    X: Any,  # noqa: N803
    config: ClusteringConfig,
    *,
    suggest: bool = False,
    cameras: Any = None,
    stage: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> FeatureGraph:
    """Build the Jaccard graph of features as far as a clustering needs it.

    Args:
        X: (N, D) features of anything.
        config: Settings of the clustering; an empty device is the CPU.
        suggest: Whether `suggest_eps` shall use the graph too: it then reaches to the largest eps that is tried.
        cameras: (N,) 0-based cameras, -1 if unknown, for neighbours by camera (CA-Jaccard) in place of k1 and k2.
        stage: Called with "neighbours" and "graph", returns a context in which the step runs; to time it, say.

    Raises:
        ClusteringError: As `jaccard_graph`.
    """
    bound = JaccardHDBSCAN().max_distance if config.method == "hdbscan" else config.eps
    bound = max(bound, EPS_TRIALS[-1]) if suggest else bound
    shared: dict[str, Any] = {"backend": config.backend, "device": config.device or "cpu", "threads": config.threads}
    if cameras is not None:
        with stage("graph"):
            return FeatureGraph(jaccard_graph(X, max_distance=bound, cameras=cameras, **shared), bound)
    with stage("neighbours"):
        neighbours = nearest_neighbours(X, config.k1, **shared)
    with stage("graph"):
        graph = jaccard_graph(
            X, k1=config.k1, k2=config.k2, max_distance=bound, neighbours=neighbours, threads=config.threads
        )
        return FeatureGraph(graph, bound)


def cluster_graph(graph: FeatureGraph, config: ClusteringConfig) -> NDArray[np.int64]:
    """Cluster a graph by the configured method; (N,) labels, -1 is noise.

    Raises:
        ClusteringError: As `dbscan` or `hdbscan`.
    """
    if config.method == "dbscan":
        return dbscan(graph.distances, eps=config.eps, min_samples=config.min_samples)[0]
    return hdbscan(
        graph.distances,
        min_cluster_size=config.min_cluster_size,
        min_samples=config.min_samples,
        threads=config.threads,
    )[0]
