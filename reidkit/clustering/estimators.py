"""Pseudo-labels as scikit-learn estimators."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import validate_data

from reidkit.clustering.checks import check_count, check_distance
from reidkit.clustering.config import ClusteringConfig
from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.hdbscan import hdbscan
from reidkit.clustering.jaccard import jaccard_graph

__all__ = ["JaccardDBSCAN", "JaccardHDBSCAN", "create_clusterer"]


@dataclass(eq=False, repr=False, kw_only=True)
class _JaccardEstimator(ClusterMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """Base of the estimators: clusters the Jaccard graph of the features. Its parameters are those of all."""

    k1: int = 30
    """Nearest neighbours, the point itself included, among which reciprocal ones are sought."""
    k2: int = 6
    """Nearest neighbours of the query expansion, at most k1; 1 turns it off."""
    backend: str = "auto"
    """See `nearest_neighbours`: "auto", "torch" and "faiss" find the same, "approximate" most of it."""
    device: str = "cpu"
    """torch's name of the device that searches the neighbours."""
    threads: int | None = None
    """Threads; None takes every core. The result is the same."""
    group: Any = None
    """`torch.distributed` process group that shares the work on the graph, see `jaccard_graph`: every process of it
    fits the same features and gets the labels of one process. None: this process computes all."""

    labels_: NDArray[np.int64] = field(init=False)
    """(N,) cluster of each feature, -1 is noise."""
    graph_: "csr_array[np.float32, tuple[int, int]]" = field(init=False)
    """(N, N) Jaccard distances up to the bound of the estimator, as `jaccard_graph` returns them."""
    n_features_in_: int = field(init=False)
    """D. (`feature_names_in_`, (D,), has the names of the features where X has string column names.)"""

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Cluster features.

        Args:
            X: (N, D) features of anything; they are L2-normalised here.
            y: Ignored; scikit-learn's convention.

        Raises:
            ClusteringError: Features or parameters that cannot be clustered.
        """
        bound = self._check()
        self.graph_ = jaccard_graph(
            X,
            k1=self.k1,
            k2=self.k2,
            max_distance=bound,
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            group=self.group,
        )
        validate_data(self, X, skip_check_array=True)
        self._cluster()
        return self

    @abstractmethod
    def _check(self) -> float:
        """Check the parameters of the estimator; return the bound on the distances of the graph."""

    @abstractmethod
    def _cluster(self) -> None:
        """Set the labels from the graph."""


@dataclass(eq=False, repr=False)
class JaccardDBSCAN(_JaccardEstimator):
    """DBSCAN on the k-reciprocal Jaccard distance: the pseudo-labels of unsupervised re-identification.

    Labels are those of `sklearn.cluster.DBSCAN` on the dense distance matrix, numbering and border points included,
    at a memory of O(N). Source: Cluster Contrast (arXiv 2103.11568, section 3); Zhong et al., CVPR 2017.
    """

    eps: float = 0.6
    """Largest Jaccard distance of neighbours, in (0, 1), compared in float32."""
    _: KW_ONLY
    min_samples: int = 4
    """Points within eps, the point itself included, that make a core point."""

    core_sample_indices_: NDArray[np.int64] = field(init=False)
    """Indices of the core points, rising."""

    def _check(self) -> float:
        check_count("min_samples", self.min_samples)
        check_distance("eps", self.eps)
        return self.eps

    def _cluster(self) -> None:
        self.labels_, core = dbscan(self.graph_, eps=self.eps, min_samples=self.min_samples)
        self.core_sample_indices_ = np.flatnonzero(core)


@dataclass(eq=False, repr=False)
class JaccardHDBSCAN(_JaccardEstimator):
    """HDBSCAN on the k-reciprocal Jaccard distance: clusters of different densities, without an eps to choose.

    Labels (numbered by their first feature) and strengths are those that `reidkit.clustering.hdbscan` returns, at a
    memory of O(N). Source: Campello et al. (TKDD 2015); Zhong et al., CVPR 2017.
    """

    min_cluster_size: int = 4
    """Fewest points of a cluster, at least 2."""
    _: KW_ONLY
    min_samples: int = 4
    """The distance to the min_samples-th nearest other point says how dense it is around a point. (`JaccardDBSCAN`
    counts the point itself too.)"""
    max_distance: float = 0.95
    """Bound on the distances kept, in (0, 1); larger ones count as 1. Towards 1 nearly everything is related to
    everything: on 12,000 features the pairs up to 0.95 gave the clusters of all pairs below 1 from a sixtieth of them.
    A bound below 0.9 loses sparse clusters."""

    probabilities_: NDArray[np.float64] = field(init=False)
    """(N,) strength of the membership in [0, 1], 0 for noise."""

    def _check(self) -> float:
        check_count("min_cluster_size", self.min_cluster_size, least=2)
        check_count("min_samples", self.min_samples)
        check_distance("max_distance", self.max_distance)
        return self.max_distance

    def _cluster(self) -> None:
        self.labels_, self.probabilities_ = hdbscan(
            self.graph_, min_cluster_size=self.min_cluster_size, min_samples=self.min_samples, threads=self.threads
        )


def create_clusterer(
    config: ClusteringConfig, *, device: str = "cpu", group: Any = None
) -> JaccardDBSCAN | JaccardHDBSCAN:
    """Build the estimator of the configured method, with the settings that it takes.

    Args:
        config: Settings of the clustering.
        device: Device that searches the neighbours where `config.device` is empty: the run's.
        group: `torch.distributed` process group that shares the work; None: this process computes all.
    """
    estimator, unused = (JaccardHDBSCAN, "eps") if config.method == "hdbscan" else (JaccardDBSCAN, "min_cluster_size")
    settings = config.model_dump(exclude={"method", "device", unused})
    return estimator(**settings, device=config.device or device, group=group)
