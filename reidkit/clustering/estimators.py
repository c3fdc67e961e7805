"""Pseudo-labels as scikit-learn estimators."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import validate_data

from reidkit.clustering.checks import check_count, check_distance
from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.jaccard import jaccard_graph

__all__ = ["JaccardDBSCAN"]


class JaccardDBSCAN(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """DBSCAN on the k-reciprocal Jaccard distance: the pseudo-labels of unsupervised re-identification.

    Labels are those of `sklearn.cluster.DBSCAN` on the dense distance matrix, numbering and border points included,
    at a memory of O(N). Source: Cluster Contrast (arXiv 2103.11568, section 3); Zhong et al., CVPR 2017.

    Args:
        eps: Largest Jaccard distance of neighbours, in (0, 1), compared in float32.
        min_samples: Points within eps, the point itself included, that make a core point.
        k1: Nearest neighbours, the point itself included, among which reciprocal ones are sought.
        k2: Nearest neighbours of the query expansion, at most k1; 1 turns it off.
        backend: Library that searches the neighbours: "auto", "torch" or "faiss"; the result is the same.
        device: torch's name of the device that searches the neighbours.
        threads: Threads; None takes every core. The result is the same.

    Attributes:
        labels_: (N,) int64 cluster of each feature, -1 is noise.
        core_sample_indices_: Indices of the core points, rising.
        graph_: (N, N) Jaccard distances up to eps, as `jaccard_graph` returns them.
        n_features_in_: D.
        feature_names_in_: (D,) names of the features, where X has string column names.
    """

    labels_: NDArray[np.int64]
    core_sample_indices_: NDArray[np.int64]
    graph_: "csr_array[np.float32, tuple[int, int]]"
    n_features_in_: int

    def __init__(
        self,
        eps: float = 0.6,
        *,
        min_samples: int = 4,
        k1: int = 30,
        k2: int = 6,
        backend: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.eps = eps
        self.min_samples = min_samples
        self.k1 = k1
        self.k2 = k2
        self.backend = backend
        self.device = device
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Cluster features.

        Args:
            X: (N, D) features of anything; they are L2-normalised here.
            y: Ignored; scikit-learn's convention.

        Raises:
            ClusteringError: Features or parameters that cannot be clustered.
        """
        check_distance("eps", self.eps)
        check_count("min_samples", self.min_samples)
        self.graph_ = jaccard_graph(
            X,
            k1=self.k1,
            k2=self.k2,
            max_distance=self.eps,
            backend=self.backend,
            device=self.device,
            threads=self.threads,
        )
        validate_data(self, X, skip_check_array=True)
        self.labels_, core = dbscan(self.graph_, eps=self.eps, min_samples=self.min_samples)
        self.core_sample_indices_ = np.flatnonzero(core)
        return self
