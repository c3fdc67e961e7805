from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike, NDArray

from reidkit.clustering import jaccard, jaccard_graph, nearest_neighbours
from reidkit.clustering.jaccard import Rings
from reidkit.clustering.rows import Rows
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered

Golden: TypeAlias = Callable[[str], dict[str, Any]]


def dense(graph: Any) -> NDArray[np.float32]:
    """Distances (N, N), with 1 for the pairs that are not stored."""
    pairs = graph.tocoo()
    distance = np.ones(graph.shape, np.float32)
    distance[pairs.row, pairs.col] = pairs.data
    return distance


def assert_graph_of(graph: Any, distance: NDArray[np.float32], bound: float) -> None:
    """Exactly the pairs within the bound are stored, as far as rounding lets one say."""
    stored = np.zeros(graph.shape, bool)
    pairs = graph.tocoo()
    stored[pairs.row, pairs.col] = True
    assert stored[distance <= bound - 1e-5].all()
    assert not stored[distance > bound + 1e-5].any()
    np.testing.assert_allclose(pairs.data, distance[pairs.row, pairs.col], atol=1e-5)


def assert_same(graph: Any, other: Any) -> None:
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(graph, name), getattr(other, name))


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (20, 6), (30, 1)])
@pytest.mark.parametrize("eps", [0.4, 0.6, 0.7])
def test_golden(k1: int, k2: int, eps: float, golden: Golden) -> None:
    numbers = golden("jaccard_a")
    expected = numbers[f"jaccard_k1_{k1}_k2_{k2}"]
    graph = jaccard_graph(numbers["features"], k1=k1, k2=k2, max_distance=eps)
    pairs = graph.tocoo()
    stored = np.zeros(expected.shape, bool)
    stored[pairs.row, pairs.col] = True
    np.testing.assert_array_equal(stored, expected <= np.float32(eps))
    np.testing.assert_allclose(pairs.data, expected[pairs.row, pairs.col], atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 30, 31, 300])
@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (15, 6), (7, 7), (4, 1), (2, 2), (1, 1)])
def test_twin(n: int, k1: int, k2: int, clustered: Clustered) -> None:
    features = clustered(n)
    distance = naive.jaccard_distance(features, k1, k2)
    assert_graph_of(jaccard_graph(features, k1=k1, k2=k2, max_distance=0.999), distance, 0.999)


@settings(max_examples=60, deadline=None)
@given(
    features=arrays(np.float64, st.tuples(st.integers(1, 50), st.just(3)), elements=st.integers(-1, 2)),
    k1=st.integers(1, 40),
    k2=st.integers(1, 8),
    bound=st.floats(0, 0.99),
)
def test_twin_with_ties_duplicates_and_zeros(features: Any, k1: int, k2: int, bound: float) -> None:
    k2 = min(k1, k2)
    distance = naive.jaccard_distance(features, k1, k2)
    assert_graph_of(jaccard_graph(features, k1=k1, k2=k2, max_distance=bound), distance, bound)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 120),
    spread=st.floats(0, 3),
    seed=st.integers(0, 1000),
    k1=st.integers(1, 40),
    threads=st.integers(1, 4),
)
def test_graph_is_a_metric_graph(n: int, spread: float, seed: int, k1: int, threads: int) -> None:
    random = np.random.default_rng(seed)
    features = random.standard_normal((n // 8 + 1, 8))[random.integers(0, n // 8 + 1, n)]
    features += spread * random.standard_normal((n, 8))
    graph = jaccard_graph(features, k1=k1, k2=min(k1, 6), max_distance=0.9, threads=threads)
    assert (graph.data >= 0).all()
    assert (graph.data <= np.float32(0.9)).all()
    assert_same(graph, graph.T.tocsr())
    assert (graph.diagonal() == 0).all()
    assert all(i in graph.indices[graph.indptr[i] : graph.indptr[i + 1]] for i in range(n))


def test_format(clustered: Clustered) -> None:
    graph = jaccard_graph(clustered(100))
    assert (graph.format, graph.shape) == ("csr", (100, 100))
    assert graph.dtype == np.float32
    assert graph.indices.dtype == graph.indptr.dtype == np.int32
    assert graph.has_canonical_format


def test_duplicates_are_near_and_zeros_are_stored(clustered: Clustered) -> None:
    features = np.repeat(clustered(40, spread=3), 5, axis=0)
    graph = jaccard_graph(features, k1=10, k2=5, max_distance=1e-6)
    np.testing.assert_array_equal(dense(graph) < 1, np.kron(np.eye(40), np.ones((5, 5))) == 1)
    assert (graph.data == 0).sum() >= 200


def test_bound_of_zero_keeps_zeros_only(clustered: Clustered) -> None:
    features = clustered(50)
    graph = jaccard_graph(features, k1=8, max_distance=0)
    assert_graph_of(graph, naive.jaccard_distance(features, 8, 6), 0)
    assert (graph.data == 0).all()
    assert graph.nnz >= 50


def test_constant_features_are_well_defined() -> None:
    features = np.ones((64, 4))
    distance = naive.jaccard_distance(features, 8, 3)
    assert_graph_of(jaccard_graph(features, k1=8, k2=3, max_distance=0.9), distance, 0.9)


def test_one_point_is_its_own_graph() -> None:
    graph = jaccard_graph([[2.0, 1.0]])
    assert (graph.indptr.tolist(), graph.indices.tolist(), graph.data.tolist()) == ([0, 1], [0], [0.0])


def test_permuting_the_features_permutes_the_graph(clustered: Clustered) -> None:
    features = clustered(600)
    order = np.random.default_rng(5).permutation(600)
    expected = dense(jaccard_graph(features, max_distance=0.95))[np.ix_(order, order)]
    np.testing.assert_allclose(dense(jaccard_graph(features[order], max_distance=0.95)), expected, atol=1e-6)


def test_threads_do_not_change_a_bit(clustered: Clustered) -> None:
    features = clustered(1500)
    graph = jaccard_graph(features, threads=1)
    for threads in (2, 5):
        assert_same(jaccard_graph(features, threads=threads), graph)


def test_precision_of_the_input_does_not_change_a_bit(clustered: Clustered) -> None:
    features = clustered(300)
    assert_same(jaccard_graph(features.astype(np.float64)), jaccard_graph(features))


def test_input_is_not_touched(clustered: Clustered) -> None:
    features = clustered(100)
    neighbours = nearest_neighbours(features, 30)
    before = features.copy(), neighbours.copy()
    jaccard_graph(features, neighbours=neighbours)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(neighbours, before[1])


def test_given_neighbours_are_used(clustered: Clustered) -> None:
    features = clustered(300)
    neighbours = nearest_neighbours(features, 40).astype(np.int64)
    assert_same(jaccard_graph(features, k1=20, neighbours=neighbours), jaccard_graph(features, k1=20))


@pytest.mark.parametrize(
    ("neighbours", "message"),
    [
        (np.zeros((10, 3), np.int32), r"shape \(10, 3\).*pass nearest_neighbours\(X, 4\)"),
        (np.zeros((9, 4), np.int32), "do not fit"),
        (np.zeros(10, np.int32), "do not fit"),
        (np.zeros((10, 4)), "float64"),
        (np.zeros((10, 4), np.int32), "own first neighbour"),
        (np.stack([np.arange(10), np.full(10, 10)] * 2, axis=1), "from 0 to 9"),
        (np.stack([np.arange(10), np.full(10, -1)] * 2, axis=1), "from 0 to 9"),
    ],
)
def test_given_neighbours_must_fit(neighbours: ArrayLike, message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        jaccard_graph(clustered(10), k1=4, k2=2, neighbours=cast(Any, neighbours))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0}, "k1=0 must"),
        ({"k2": 0}, "k2=0 must"),
        ({"k1": 5}, "k2=6 must not exceed k1=5"),
        ({"max_distance": 1.0}, r"max_distance=1.0 must lie in \[0, 1\)"),
        ({"max_distance": -0.1}, "max_distance"),
        ({"max_distance": float("nan")}, "max_distance"),
        ({"backend": "annoy"}, "backend='annoy'"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        jaccard_graph(clustered(10), **options)


def test_no_features() -> None:
    with pytest.raises(ClusteringError, match=r"0 sample\(s\)"):
        jaccard_graph(np.empty((0, 8)))


def same(rows: Rows, other: Rows) -> None:
    used = rows.indptr[-1]
    np.testing.assert_array_equal(rows.indptr, other.indptr)
    np.testing.assert_array_equal(rows.indices[:used], other.indices[:used])
    np.testing.assert_allclose(rows.weights[:used], other.weights[:used], atol=1e-7)


def test_kernels_agree_with_their_python(clustered: Clustered) -> None:
    points = naive.unit_vectors(clustered(60))
    neighbours = nearest_neighbours(points, 12)
    rings, plain = (Rings(neighbours, np.zeros_like(neighbours)) for _ in range(2))
    jaccard.measure_depth(rings, 0, 60)
    cast(Any, jaccard.measure_depth).py_func(plain, 0, 60)
    np.testing.assert_array_equal(rings.depth, plain.depth)

    rows = jaccard.expand(rings, 7, 0, 60)
    rows.weights[:] = 0.25
    expanded = cast(Any, jaccard.expand).py_func(rings, 7, 0, 60)
    expanded.weights[:] = 0.25
    same(rows, expanded)
    jaccard.softmax(rows)
    cast(Any, jaccard.softmax).py_func(expanded)
    same(rows, expanded)

    rows = jaccard.average(rows, neighbours[:, :3].copy(), 0, 60)
    same(rows, cast(Any, jaccard.average).py_func(expanded, neighbours[:, :3].copy(), 0, 60))
    columns = jaccard.transpose(rows)
    same(columns, cast(Any, jaccard.transpose).py_func(rows))
    bound = np.float32(0.7)
    upper = jaccard.pairs(rows, columns, bound, 0, 60)
    assert upper.indptr[-1] > 60
    same(upper, cast(Any, jaccard.pairs).py_func(rows, columns, bound, 0, 60))
    lower = jaccard.transpose(upper)
    same(jaccard.join(lower, upper), cast(Any, jaccard.join).py_func(lower, upper))


def test_small_kernels_agree_with_their_python(clustered: Clustered) -> None:
    neighbours = nearest_neighbours(clustered(40), 12)
    rings = Rings(neighbours, np.zeros_like(neighbours))
    jaccard.measure_depth(rings, 0, 40)
    for run in (jaccard.collect, cast(Any, jaccard.collect).py_func):
        state, found = np.zeros(40, np.uint8), np.zeros(40, np.int32)
        count = run(rings, 7, 3, state, found)
        assert sorted(found[:count].tolist()) == np.flatnonzero(state).tolist()
        assert found[0] == 3
    for run in (jaccard.distance, cast(Any, jaccard.distance).py_func):
        assert [run(np.float32(s)) for s in (0, 0.5, 1, 1.0000001)] == [1, np.float32(1) - np.float32(0.5 / 1.5), 0, 0]
    weights = Rows(np.array([0, 1, 3, 4]), np.array([2, 0, 2, 0], np.int32), np.array([1, 0.75, 0.25, 1], np.float32))
    columns = jaccard.transpose(weights)
    for run in (jaccard.meet, cast(Any, jaccard.meet).py_func):
        overlap, found = np.zeros(3, np.float32), np.zeros(3, np.int32)
        assert run(weights, columns, 0, overlap, found) == 1
        assert (overlap.tolist(), found[0]) == ([0, 0.25, 0], 1)
    for run in (jaccard.empty_rows, cast(Any, jaccard.empty_rows).py_func):
        assert [array.tolist() for array in run(2)] == [[0, 0, 0], [], []]
    for run in (jaccard.reserve, cast(Any, jaccard.reserve).py_func):
        rows = Rows(np.array([0, 2]), np.array([4, 7], np.int32), np.array([0.5, 0.25], np.float32))
        assert run(rows, 1, 1).indices.size == 2
        grown = run(rows, 2, 3)
        assert grown.indices.size == grown.weights.size == 10
        assert grown.indices[:2].tolist() == [4, 7]
        assert grown.weights[:2].tolist() == [0.5, 0.25]


def test_half_sets_of_exactly_two_thirds_do_not_expand() -> None:
    """S(0) is 0, 1 and the half set of 1 is 0, 1, 2: two of its three lie inside, and more must."""
    neighbours = np.array(
        [[0, 1, 3, 4], [1, 0, 2, 3], [2, 1, 3, 4], [3, 4, 2, 5], [4, 3, 5, 2], [5, 4, 3, 2]], np.int32
    )
    rings = Rings(neighbours, np.zeros_like(neighbours))
    jaccard.measure_depth(rings, 0, 6)
    rows = jaccard.expand(rings, 3, 0, 6)
    assert sorted(rows.indices[: rows.indptr[1]].tolist()) == [0, 1]
