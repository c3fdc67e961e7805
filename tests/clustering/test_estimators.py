from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.utils.estimator_checks import parametrize_with_checks

from reidkit.clustering import JaccardDBSCAN, JaccardHDBSCAN, dbscan, hdbscan, jaccard_graph
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered


@parametrize_with_checks([JaccardDBSCAN(), JaccardHDBSCAN()])  # type: ignore[untyped-decorator]
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (20, 6), (30, 1)])
@pytest.mark.parametrize("eps", [0.4, 0.6, 0.7])
def test_golden(k1: int, k2: int, eps: float, golden: Callable[[str], dict[str, Any]]) -> None:
    numbers = golden("jaccard_a")
    model = JaccardDBSCAN(eps, min_samples=4, k1=k1, k2=k2).fit(numbers["features"])
    np.testing.assert_array_equal(model.labels_, numbers[f"dbscan_k1_{k1}_k2_{k2}_eps_{eps}"])


@pytest.mark.parametrize("n", [1, 5, 40, 400])
@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (15, 6), (8, 1)])
@pytest.mark.parametrize("eps", [0.4, 0.6, 0.7])
def test_twin(n: int, k1: int, k2: int, eps: float, clustered: Clustered) -> None:
    features = clustered(n, spread=1.0)
    expected = naive.dbscan(naive.jaccard_distance(features, k1, k2), eps, 4)
    labels = JaccardDBSCAN(eps, k1=k1, k2=k2).fit_predict(features)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected)


def test_isolated_points_are_noise(clustered: Clustered) -> None:
    features = np.zeros((105, 37), np.float32)
    features[:100, :32] = clustered(100)
    features[100:, 32:] = np.eye(5)
    labels = JaccardDBSCAN(k1=8, k2=1).fit_predict(features)
    assert (labels[-5:] == -1).all()
    assert labels.max() >= 3


def test_attributes(clustered: Clustered) -> None:
    features = clustered(300, spread=1.0)
    model = JaccardDBSCAN(0.5).fit(features)
    graph = jaccard_graph(features, max_distance=0.5)
    labels, core = dbscan(graph, eps=0.5, min_samples=4)
    np.testing.assert_array_equal(model.graph_.indptr, graph.indptr)
    np.testing.assert_array_equal(model.graph_.indices, graph.indices)
    np.testing.assert_array_equal(model.graph_.data, graph.data)
    np.testing.assert_array_equal(model.labels_, labels)
    np.testing.assert_array_equal(model.core_sample_indices_, np.flatnonzero(core))
    assert model.n_features_in_ == 32


def test_graph_can_be_clustered_by_scikit_learn(clustered: Clustered) -> None:
    model = JaccardDBSCAN().fit(clustered(300, spread=1.0))
    other = DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit(model.graph_)
    np.testing.assert_array_equal(other.labels_, model.labels_)


def test_all_noise_and_one_cluster(clustered: Clustered) -> None:
    assert set(JaccardDBSCAN(min_samples=200).fit_predict(clustered(100))) == {-1}
    assert set(JaccardDBSCAN().fit_predict(clustered(20, spread=0.1))) == {0}


def test_permuting_the_features_permutes_the_clusters(clustered: Clustered) -> None:
    features = clustered(500)
    order = np.random.default_rng(2).permutation(500)
    labels, permuted = JaccardDBSCAN().fit_predict(features)[order], JaccardDBSCAN().fit_predict(features[order])
    pairs = set(zip(labels.tolist(), permuted.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(permuted.tolist()))
    assert all((label == -1) == (other == -1) for label, other in pairs)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("threads", [1, 2])
def test_backend_and_threads_do_not_change_labels(backend: str, threads: int, clustered: Clustered) -> None:
    features = clustered(1000, spread=1.0)
    model = clone(JaccardDBSCAN(backend=backend, threads=threads))
    np.testing.assert_array_equal(model.fit_predict(features), JaccardDBSCAN().fit_predict(features))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0}, r"eps=0 must lie in \(0, 1\)"),
        ({"eps": 1.0}, "eps=1.0"),
        ({"min_samples": 0}, "min_samples=0"),
        ({"k1": 0}, "k1=0"),
        ({"k2": 31}, "k2=31 must not exceed k1=30"),
        ({"backend": "annoy"}, "backend='annoy'"),
        ({"threads": -1}, "threads=-1"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        JaccardDBSCAN(**options).fit(clustered(10))


WIDEST = float(np.nextafter(np.float32(1), np.float32(0)))
"""Bound that keeps every pair whose distance is below 1."""


@pytest.mark.parametrize("n", [1, 2, 5, 40, 200])
@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (8, 1)])
@pytest.mark.parametrize(("min_cluster_size", "min_samples"), [(2, 1), (4, 4), (8, 3)])
def test_hdbscan_twin(n: int, k1: int, k2: int, min_cluster_size: int, min_samples: int, clustered: Clustered) -> None:
    features = clustered(n, spread=1.0)
    model = JaccardHDBSCAN(min_cluster_size, min_samples=min_samples, max_distance=WIDEST, k1=k1, k2=k2)
    expected = naive.hdbscan(naive.jaccard_distance(features, k1, k2), min_cluster_size, min_samples)
    labels = model.fit_predict(features)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected)


def test_hdbscan_attributes(clustered: Clustered) -> None:
    features = clustered(300, spread=1.0)
    model = JaccardHDBSCAN(5, min_samples=3, max_distance=0.9).fit(features)
    graph = jaccard_graph(features, max_distance=0.9)
    labels, probabilities = hdbscan(graph, min_cluster_size=5, min_samples=3)
    assert labels.max() > 10
    np.testing.assert_array_equal(model.graph_.indices, graph.indices)
    np.testing.assert_array_equal(model.graph_.data, graph.data)
    np.testing.assert_array_equal(model.labels_, labels)
    np.testing.assert_array_equal(model.probabilities_, probabilities)
    assert model.n_features_in_ == 32


@pytest.mark.parametrize("spread", [0.6, 1.0, 1.4])
def test_hdbscan_needs_no_pairs_beyond_the_default_bound(spread: float, clustered: Clustered) -> None:
    features = clustered(1500, d=64, spread=spread)
    model, widest = JaccardHDBSCAN().fit(features), JaccardHDBSCAN(max_distance=WIDEST).fit(features)
    assert 5 * model.graph_.nnz < widest.graph_.nnz
    assert model.labels_.max() > 50
    np.testing.assert_array_equal(model.labels_, widest.labels_)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("threads", [1, 2])
def test_backend_and_threads_do_not_change_the_hierarchy(backend: str, threads: int, clustered: Clustered) -> None:
    features = clustered(1000, spread=1.0)
    model = clone(JaccardHDBSCAN(backend=backend, threads=threads)).fit(features)
    expected = JaccardHDBSCAN().fit(features)
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    np.testing.assert_array_equal(model.probabilities_, expected.probabilities_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size=1 must be an integer of at least 2"),
        ({"min_samples": 0}, "min_samples=0"),
        ({"max_distance": 0}, r"max_distance=0 must lie in \(0, 1\)"),
        ({"max_distance": 1}, "max_distance=1"),
        ({"k2": 31}, "k2=31 must not exceed k1=30"),
        ({"threads": -1}, "threads=-1"),
    ],
)
def test_parameters_of_hdbscan_out_of_range(options: dict[str, Any], message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        JaccardHDBSCAN(**options).fit(clustered(10))
