from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias, cast

import hdbscan as package
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array, csr_array, csr_matrix
from sklearn.metrics import adjusted_rand_score

from reidkit.clustering import hdbscan, jaccard_graph
from reidkit.clustering.dbscan import measure_core
from reidkit.clustering.hdbscan import Edges, link, spanning_tree
from reidkit.clustering.sparse_rows import graph_rows
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered

Distances: TypeAlias = NDArray[np.float32]

LEVELS = np.array([0, 0.125, 0.25, 0.5, 1])
"""Distances whose reciprocals, and sums of these, are exact: what is equal on paper is equal here."""


def tied(n: int, seed: int) -> Distances:
    """Symmetric distances (n, n) of five levels, from coincident to unrelated; points in groups of about eight."""
    random = np.random.default_rng(seed)
    group = random.integers(n // 8 + 1, size=n)
    near = random.choice(LEVELS, size=(n, n), p=(0.05, 0.2, 0.35, 0.3, 0.1))
    far = random.choice(LEVELS, size=(n, n), p=(0, 0, 0.3 / n, 0.7 / n, 1 - 1 / n))
    distance = np.triu(np.where(group[:, None] == group, near, far), 1)
    return (distance + distance.T).astype(np.float32)


def untied(n: int, seed: int) -> Distances:
    """Distances (n, n) below 1 of points in groups of ten; equal ones are rare."""
    random = np.random.default_rng(seed)
    points = random.random((n // 10 + 1, 2)).repeat(10, axis=0)[:n] + 0.05 * random.standard_normal((n, 2))
    distance: Distances = (np.linalg.norm(points[:, None] - points, axis=2) / 4).astype(np.float32)
    return distance


def sparse(distance: NDArray[np.floating[Any]], bound: float = 0.999) -> "csr_array[Any, tuple[int, int]]":
    """Graph of the pairs within the bound, zeros included."""
    row, column = np.nonzero(distance <= bound)
    return csr_array((distance[row, column], (row, column)), shape=distance.shape)


def cut(distance: Distances, bound: float) -> Distances:
    """Distances of a graph up to the bound: larger distances are 1."""
    return np.where(distance <= bound, distance, np.float32(1))


def tree_of(graph: Any, min_samples: int) -> Edges:
    rows = graph_rows(graph)
    core = np.empty(graph.shape[0], np.float32)
    measure_core(rows, min(min_samples, len(core) - 1), core, 0, len(core))
    return spanning_tree(rows, core)


def dense_tree(distance: Distances, min_samples: int) -> NDArray[np.float64]:
    """Sorted weights (N - 1,) of the minimum spanning tree in the package: the heights of its hierarchy."""
    model = package.HDBSCAN(metric="precomputed", min_samples=min_samples).fit(distance.astype(np.float64))
    return np.asarray(model.single_linkage_tree_.to_numpy()[:, 2], np.float64)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    make=st.sampled_from([tied, untied]),
    bound=st.sampled_from([0.1, 0.3, 0.999]),
    min_cluster_size=st.integers(2, 6),
    min_samples=st.integers(1, 5),
)
def test_twin(
    n: int, seed: int, make: Callable[[int, int], Distances], bound: float, min_cluster_size: int, min_samples: int
) -> None:
    distance = make(n, seed)
    labels, probabilities = hdbscan(
        sparse(distance, bound), min_cluster_size=min_cluster_size, min_samples=min_samples, threads=1
    )
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, naive.hdbscan(cut(distance, bound), min_cluster_size, min_samples))
    assert probabilities.shape == labels.shape
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (probabilities[labels < 0] == 0).all()


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(2, 60),
    seed=st.integers(0, 10_000),
    make=st.sampled_from([tied, untied]),
    bound=st.sampled_from([0.1, 0.3, 0.999]),
    min_samples=st.integers(1, 12),
)
def test_spanning_tree_weighs_what_the_package_s_does(
    n: int, seed: int, make: Callable[[int, int], Distances], bound: float, min_samples: int
) -> None:
    distance = make(n, seed)
    edges = tree_of(sparse(distance, bound), min_samples)
    np.testing.assert_array_equal(edges.weight, dense_tree(cut(distance, bound), min_samples))
    hierarchy = link(edges)
    joined = np.sort(hierarchy[:, :2].ravel())
    np.testing.assert_array_equal(joined, np.arange(2 * n - 2))  # every cluster but the last merges once
    assert hierarchy[-1, 3] == n


@pytest.mark.parametrize("n", [50, 200, 500])
@pytest.mark.parametrize("min_cluster_size", [2, 5, 8])
def test_package_without_ties(n: int, min_cluster_size: int) -> None:
    """With min_samples=1 mutual reachability is the distance itself: one spanning tree, one hierarchy."""
    distance = untied(n, seed=n)
    labels, probabilities = hdbscan(sparse(distance), min_cluster_size=min_cluster_size, min_samples=1)
    model = package.HDBSCAN(metric="precomputed", min_cluster_size=min_cluster_size, min_samples=1)
    model.fit(distance.astype(np.float64))
    assert labels.max() >= 2
    assert (labels == -1).tolist() == (model.labels_ == -1).tolist()
    assert adjusted_rand_score(labels, model.labels_) == 1
    np.testing.assert_allclose(probabilities, model.probabilities_, rtol=1e-12)


@pytest.mark.parametrize(("n", "spread"), [(300, 0.6), (800, 0.9), (800, 1.1)])
@pytest.mark.parametrize(("min_cluster_size", "min_samples"), [(4, 1), (4, 4), (8, 4)])
def test_package_on_features(
    n: int, spread: float, min_cluster_size: int, min_samples: int, clustered: Clustered
) -> None:
    """The package's `match_reference_implementation` leaves out the points that join at the level of a tie, too.

    It raises min_cluster_size by one and lowers min_samples by one.
    """
    graph = jaccard_graph(clustered(n, d=64, spread=spread), max_distance=0.99)
    distance = np.ones(graph.shape)
    coordinates = graph.tocoo()
    distance[coordinates.row, coordinates.col] = coordinates.data
    labels, _ = hdbscan(graph, min_cluster_size=min_cluster_size, min_samples=min_samples)
    model = package.HDBSCAN(
        metric="precomputed",
        min_cluster_size=min_cluster_size - 1,
        min_samples=min_samples + 1,
        match_reference_implementation=True,
    ).fit(distance)
    assert labels.max() >= 20
    assert (labels == -1).tolist() == (model.labels_ == -1).tolist()
    assert adjusted_rand_score(labels, model.labels_) == 1


@pytest.mark.parametrize("make", [tied, untied])
def test_order_of_the_points_does_not_matter(make: Callable[[int, int], Distances]) -> None:
    distance = make(120, 5)
    order = np.random.default_rng(1).permutation(120)
    labels, probabilities = hdbscan(sparse(distance), min_cluster_size=4, min_samples=2)
    permuted, strengths = hdbscan(sparse(distance[np.ix_(order, order)]), min_cluster_size=4, min_samples=2)
    assert labels.max() >= 1
    assert (permuted == -1).tolist() == (labels[order] == -1).tolist()
    assert adjusted_rand_score(labels[order], permuted) == 1
    np.testing.assert_allclose(strengths, probabilities[order])


def test_labels_are_numbered_by_their_smallest_point() -> None:
    labels, _ = hdbscan(sparse(untied(200, 3)), min_cluster_size=4, min_samples=2)
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(labels.max() + 1)]
    assert len(first) >= 3
    assert first == sorted(first)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_isolated_points_are_noise(n: int) -> None:
    labels, probabilities = hdbscan(csr_array((n, n), dtype=np.float32), min_cluster_size=2, min_samples=1)
    assert labels.tolist() == [-1] * n
    assert probabilities.tolist() == [0] * n


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_coincident_points_are_the_whole_and_no_cluster(n: int) -> None:
    labels, _ = hdbscan(sparse(np.zeros((n, n))), min_cluster_size=2, min_samples=3)
    assert labels.tolist() == [-1] * n


def test_fewer_points_than_a_cluster_are_noise() -> None:
    labels, _ = hdbscan(sparse(untied(20, 0)), min_cluster_size=21, min_samples=2)
    assert set(labels) == {-1}


def test_more_samples_than_points_reach_for_the_farthest() -> None:
    distance = untied(30, 2)
    weights = tree_of(sparse(distance), 1000).weight
    np.testing.assert_array_equal(weights, tree_of(sparse(distance), 29).weight)
    np.testing.assert_array_equal(weights, dense_tree(distance, 1000))


@pytest.mark.parametrize("distance", [0, 0.2])
@pytest.mark.parametrize("isolated", [0, 1, 9])
def test_components_are_clusters(distance: float, isolated: int) -> None:
    """Three groups that nothing joins, between isolated points, which are no cluster together."""
    n = 15 + isolated
    dense = np.ones((n, n), np.float32)
    for start in (0, 5, 10):
        dense[start : start + 5, start : start + 5] = distance
    np.fill_diagonal(dense, 0)
    order = np.random.default_rng(0).permutation(n)
    labels, probabilities = hdbscan(sparse(dense[np.ix_(order, order)]), min_cluster_size=3, min_samples=2)
    groups = [{int(label) for label in labels[np.isin(order, range(start, start + 5))]} for start in (0, 5, 10)]
    assert sorted(min(group) for group in groups) == [0, 1, 2]
    assert all(len(group) == 1 for group in groups)
    assert (labels[order >= 15] == -1).all()
    np.testing.assert_array_equal(probabilities, order < 15)


def test_distances_of_zero_survive() -> None:
    """Two coincident points among others: the tree holds the edge of zero, which scipy's would drop."""
    distance = untied(20, 4)
    distance[0] = distance[:, 0] = distance[:, 1]
    distance[0, 0] = distance[0, 1] = distance[1, 0] = 0
    edges = tree_of(sparse(distance), 1)
    assert edges.weight[0] == 0
    assert {int(edges.first[0]), int(edges.second[0])} == {0, 1}
    np.testing.assert_array_equal(edges.weight, linkage(distance[np.triu_indices(20, 1)], "single")[:, 2])


def test_a_point_between_two_clusters_is_in_neither() -> None:
    """Point 8 joins both at 0.5, where they join each other; the package would give it to one of them."""
    distance = np.ones((9, 9), np.float32)
    distance[:4, :4] = distance[4:8, 4:8] = 0.25
    distance[8, [3, 4]] = distance[[3, 4], 8] = 0.5
    np.fill_diagonal(distance, 0)
    labels, _ = hdbscan(sparse(distance), min_cluster_size=3, min_samples=1)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, -1]


def test_threads_do_not_change_the_labels() -> None:
    graph = sparse(tied(1000, 3))
    assert len(np.unique(tree_of(graph, 1).weight)) == len(LEVELS)
    results = [hdbscan(graph, min_cluster_size=3, min_samples=4, threads=threads) for threads in (1, 3)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_other_sparse_formats_and_types() -> None:
    graph = sparse(untied(80, 3), 0.3)
    expected, _ = hdbscan(graph, min_cluster_size=4, min_samples=3)
    assert expected.max() >= 1
    entries = graph.tocoo()
    off = entries.row != entries.col
    for other in (
        csr_matrix(graph),
        graph.tocsc(),
        graph.astype(np.float64),
        coo_array((entries.data[off], (entries.row[off], entries.col[off])), shape=graph.shape),
    ):
        np.testing.assert_array_equal(hdbscan(other, min_cluster_size=4, min_samples=3)[0], expected)


def test_graph_is_not_touched() -> None:
    graph = sparse(untied(80, 3), 0.3)
    before = graph.copy()
    hdbscan(graph, min_cluster_size=4, min_samples=3)
    np.testing.assert_array_equal(graph.data, before.data)
    np.testing.assert_array_equal(graph.indices, before.indices)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.eye(3), r"ndarray of shape \(3, 3\) is no square sparse matrix"),
        (csr_array(np.ones((2, 3))), r"shape \(2, 3\)"),
        (csr_array(np.array([[0.0, -0.5], [-0.5, 0.0]])), r"outside \[0, 1\] or NaN"),
        (csr_array(np.array([[0.0, 1.5], [1.5, 0.0]])), r"outside \[0, 1\] or NaN"),
        (csr_array(np.array([[0.0, np.nan], [np.nan, 0.0]])), r"outside \[0, 1\] or NaN"),
    ],
)
def test_what_is_no_graph_is_refused(graph: Any, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        hdbscan(graph, min_cluster_size=2, min_samples=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size=1 must be an integer of at least 2"),
        ({"min_cluster_size": 2.5}, "min_cluster_size=2.5 must be an integer"),
        ({"min_samples": 0}, "min_samples=0"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        hdbscan(csr_array(np.eye(3)), **({"min_cluster_size": 2, "min_samples": 2} | options))


def test_kernels_agree_with_their_python(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = tree_of(sparse(tied(60, 7)), 3)
    expected = link(edges)
    assert len(np.unique(edges.weight)) >= 3
    module = import_module("reidkit.clustering.hdbscan")
    for name in ("find", "gather", "link", "merge"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    np.testing.assert_array_equal(cast(Any, module).link(edges), expected)
