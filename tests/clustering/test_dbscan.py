from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, csr_matrix
from sklearn.cluster import DBSCAN

from reidkit.clustering import dbscan
from reidkit.clustering.dbscan import core_distances, find_core, measure_core, spread_labels
from reidkit.clustering.sparse_rows import Rows, graph_rows
from reidkit.errors import ClusteringError
from tests.clustering.test_quality import random_graph


def random_distances(n: int, seed: int, steps: int) -> NDArray[np.float32]:
    """Symmetric distances (n, n) in multiples of 1 / steps, many of them equal, many zero."""
    random = np.random.default_rng(seed)
    distance = np.triu(random.integers(0, steps + 1, (n, n)) / steps, 1)
    return (distance + distance.T).astype(np.float32)


def sparse(distance: NDArray[np.floating[Any]], bound: float) -> "csr_array[Any, tuple[int, int]]":
    """Graph of the pairs within the bound, zeros included."""
    row, column = np.nonzero(distance <= bound)
    return csr_array((distance[row, column], (row, column)), shape=distance.shape)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    steps=st.sampled_from([1, 3, 10, 40]),
    eps=st.floats(0.01, 0.9),
    min_samples=st.integers(1, 12),
)
def test_twin(n: int, seed: int, steps: int, eps: float, min_samples: int) -> None:
    distance = random_distances(n, seed, steps)
    labels, core = dbscan(sparse(distance, 0.9), eps=eps, min_samples=min_samples)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distance)
    assert labels.dtype == np.int64
    assert core.dtype == np.bool_
    np.testing.assert_array_equal(labels, expected.labels_)
    np.testing.assert_array_equal(np.flatnonzero(core), expected.core_sample_indices_)


def test_border_points_join_the_first_cluster() -> None:
    """Point 4 lies within eps of two core points, 3 and 5, of different clusters, and is core of none."""
    distance = np.ones((9, 9), np.float32)
    distance[:4, :4] = distance[5:, 5:] = 0.1
    distance[4, [3, 5]] = distance[[3, 5], 4] = 0.3
    np.fill_diagonal(distance, 0)
    labels, core = dbscan(sparse(distance, 0.5), eps=0.5, min_samples=4)
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert not core[4]


def test_distance_of_exactly_eps_counts() -> None:
    graph = sparse(np.array([[0, 0.6], [0.6, 0]], np.float32), 0.7)
    assert dbscan(graph, eps=0.6, min_samples=2)[0].tolist() == [0, 0]
    assert dbscan(graph, eps=0.59, min_samples=2)[0].tolist() == [-1, -1]


def test_all_noise_and_one_cluster() -> None:
    distance = random_distances(30, 0, 5) / 2
    assert set(dbscan(sparse(distance, 0.5), eps=0.5, min_samples=31)[0]) == {-1}
    assert set(dbscan(sparse(distance, 0.5), eps=0.5, min_samples=4)[0]) == {0}


def test_other_sparse_formats_and_types() -> None:
    distance = random_distances(40, 3, 10)
    graph = sparse(distance, 0.3)
    expected = dbscan(graph, eps=0.2, min_samples=5)[0]
    assert expected.max() >= 0
    without_diagonal = graph.tocoo()
    off = without_diagonal.row != without_diagonal.col
    for other in (
        csr_matrix(graph),
        graph.tocsc(),
        graph.astype(np.float64),
        coo_array(
            (without_diagonal.data[off], (without_diagonal.row[off], without_diagonal.col[off])), shape=graph.shape
        ),
    ):
        np.testing.assert_array_equal(dbscan(other, eps=0.2, min_samples=5)[0], expected)


def test_graph_is_not_touched() -> None:
    graph = sparse(random_distances(40, 3, 10), 0.3)
    before = graph.copy()
    dbscan(graph, eps=0.2, min_samples=5)
    np.testing.assert_array_equal(graph.data, before.data)
    np.testing.assert_array_equal(graph.indices, before.indices)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.eye(3), r"ndarray of shape \(3, 3\) is no square sparse matrix"),
        (csr_array(np.ones((2, 3))), r"shape \(2, 3\)"),
        (csr_array(np.array([[0.0, -0.5], [-0.5, 0.0]])), "negative distances or NaN"),
        (csr_array(np.array([[0.0, np.nan], [np.nan, 0.0]])), "negative distances or NaN"),
    ],
)
def test_what_is_no_graph_is_refused(graph: Any, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        dbscan(graph, eps=0.5, min_samples=2)


@pytest.mark.parametrize("eps", [0, 1, -0.5, 2, float("nan")])
def test_eps_lies_between_zero_and_one(eps: float) -> None:
    with pytest.raises(ClusteringError, match="eps="):
        dbscan(csr_array(np.eye(3)), eps=eps, min_samples=2)


def test_min_samples_is_positive() -> None:
    with pytest.raises(ClusteringError, match="min_samples=0"):
        dbscan(csr_array(np.eye(3)), eps=0.5, min_samples=0)


def test_kernels_agree_with_their_python() -> None:
    graph = sparse(random_distances(50, 7, 20), 0.3)
    rows = Rows(graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data)
    eps = np.float32(0.15)
    core = find_core(rows, eps, 8)
    labels = spread_labels(rows, eps, core)
    assert 0 < core.sum() < 50
    np.testing.assert_array_equal(cast(Any, find_core).py_func(rows, eps, 8), core)
    np.testing.assert_array_equal(cast(Any, spread_labels).py_func(rows, eps, core), labels)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 10_000), min_samples=st.integers(1, 8), diagonal=st.booleans())
def test_core_distances_are_the_eps_of_core_points(n: int, seed: int, min_samples: int, diagonal: bool) -> None:
    distance, graph = random_graph(n, seed, 0.5)
    if not diagonal:
        row, column = graph.tocoo().coords
        graph = csr_array((graph.data[row != column], (row[row != column], column[row != column])), (n, n))
    expected = [1.0 if min_samples > n else np.sort(row)[min_samples - 1] for row in distance]
    found = core_distances(graph, min_samples)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    _, core = dbscan(graph, eps=0.4, min_samples=min_samples)
    np.testing.assert_array_equal(found <= np.float32(0.4), core)


def test_compiled_and_plain_and_sorted_core_distances_agree() -> None:
    distance, graph = random_graph(50, 1, 0.3)
    for kernel in (measure_core, cast(Any, measure_core).py_func):
        core = np.empty(50, np.float32)
        kernel(graph_rows(graph), 3, core, 0, 50)
        np.testing.assert_array_equal(core, np.sort(distance, axis=1)[:, 3])


def test_core_distances_of_one_thread_and_many_agree() -> None:
    _, graph = random_graph(700, 2, 0.1)
    np.testing.assert_array_equal(core_distances(graph, 4, threads=1), core_distances(graph, 4, threads=4))


@pytest.mark.parametrize(
    ("shape", "min_samples", "message"), [((3, 2), 4, "is no square sparse matrix"), ((3, 3), 0, "min_samples=0")]
)
def test_what_has_no_core_distances_is_refused(shape: tuple[int, int], min_samples: int, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        core_distances(csr_array(shape), min_samples)
