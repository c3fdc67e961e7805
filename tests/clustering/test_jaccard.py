from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike, NDArray

from reidkit.clustering import jaccard, jaccard_graph, nearest_neighbours
from reidkit.clustering.sparse_rows import Rows
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


@pytest.mark.parametrize("n", [1, 2, 7, 30, 300])
@pytest.mark.parametrize("count", [1, 2, 5, 300])
@pytest.mark.parametrize(("k1", "k2"), [((6, 21), (2, 4)), ((1, 1), (1, 0)), ((4, 3), (3, 3))])
def test_camera_twin(n: int, count: int, k1: tuple[int, int], k2: tuple[int, int], clustered: Clustered) -> None:
    features = clustered(n)
    cameras = np.random.default_rng(0).integers(-1, count, n)
    assert_camera_graph(features, cameras, k1, k2, 0.999)


@settings(max_examples=60, deadline=None)
@given(
    features=arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-1, 2)),
    seed=st.integers(0, 1000),
    k1=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    k2=st.tuples(st.integers(1, 4), st.integers(0, 6)),
    bound=st.floats(0, 0.99),
)
def test_camera_twin_with_ties_duplicates_and_zeros(
    features: Any, seed: int, k1: tuple[int, int], k2: tuple[int, int], bound: float
) -> None:
    cameras = np.random.default_rng(seed).integers(-1, 1 + seed % 4, len(features))
    assert_camera_graph(features, cameras, k1, (min(k1[0], k2[0]), min(k1[1], k2[1])), bound)


def assert_camera_graph(
    features: Any, cameras: NDArray[Any], k1: tuple[int, int], k2: tuple[int, int], bound: float
) -> None:
    counts: dict[str, Any] = {"k1_intra": k1[0], "k1_inter": k1[1], "k2_intra": k2[0], "k2_inter": k2[1]}
    graph = jaccard_graph(features, cameras=cameras, max_distance=bound, **counts)
    assert_graph_of(graph, naive.camera_jaccard_distance(features, cameras, k1, k2), bound)


def test_cameras_bring_other_cameras_pictures_together() -> None:
    """Features of 20 persons whom each of 4 cameras shifts further than the persons lie apart."""
    random = np.random.default_rng(0)
    persons, cameras = np.repeat(np.arange(20), 16), np.tile(np.repeat(np.arange(4), 4), 20)
    features = random.standard_normal((20, 32))[persons] + 1.5 * random.standard_normal((4, 32))[cameras]
    features += 0.3 * random.standard_normal(features.shape)
    wanted = (persons[:, None] == persons) & (cameras[:, None] != cameras)
    aware = dense(jaccard_graph(features, cameras=cameras, k1_intra=4, k1_inter=12, max_distance=0.8)) < 1
    unaware = dense(jaccard_graph(features, k1=16, max_distance=0.8)) < 1
    assert aware[wanted].mean() > 0.8
    assert unaware[wanted].mean() < 0.1


def test_names_of_cameras_do_not_matter(clustered: Clustered) -> None:
    features, cameras = clustered(200), np.random.default_rng(0).integers(0, 3, 200)
    expected = jaccard_graph(features, cameras=cameras)
    assert_same(jaccard_graph(features, cameras=(7 - 3 * cameras).tolist()), expected)
    assert_same(jaccard_graph(features, cameras=cameras.astype(np.uint8), threads=1, device="cpu:0"), expected)


def test_unknown_cameras_are_cameras_of_one_image(clustered: Clustered) -> None:
    features = clustered(200)
    assert_same(jaccard_graph(features, cameras=np.full(200, -1)), jaccard_graph(features, cameras=np.arange(200)))


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


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
@pytest.mark.parametrize(("n", "k1", "k2"), [(64, 8, 3), (64, 64, 6), (5, 30, 6), (64, 1, 1)])
def test_constant_features_are_well_defined(value: float, n: int, k1: int, k2: int) -> None:
    features = np.full((n, 4), value)
    distance = naive.jaccard_distance(features, k1, k2)
    assert_graph_of(jaccard_graph(features, k1=k1, k2=k2, max_distance=0.9), distance, 0.9)
    assert_camera_graph(features, np.arange(n) % 3, (k1, k1), (k2, k2), 0.9)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 29), seed=st.integers(0, 1000))
def test_fewer_points_than_neighbours_are_all_neighbours(n: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((n, 4))
    assert_same(jaccard_graph(features, k1=30, max_distance=0.9), jaccard_graph(features, k1=500, max_distance=0.9))
    assert_graph_of(jaccard_graph(features, max_distance=0.9), naive.jaccard_distance(features, 30, 6), 0.9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), isolated=st.integers(1, 5), k1=st.integers(2, 8))
def test_isolated_points_are_alone(seed: int, isolated: int, k1: int) -> None:
    """Points at right angles to one tight group, of more points than neighbours: nobody in it has them as neighbour."""
    random = np.random.default_rng(seed)
    features = np.zeros((20 + isolated, 4 + isolated))
    features[:20, :4] = 1 + 0.1 * random.random((20, 4))
    features[20:, 4:] = np.eye(isolated)
    graph = dense(jaccard_graph(features, k1=k1, k2=1, max_distance=0.99))
    np.testing.assert_array_equal(graph[20:, :20], 1)
    assert (graph[:20, :20] < 1).sum() > 20


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), repeats=st.integers(2, 6), k1=st.integers(2, 20))
def test_duplicates_in_one_neighbourhood_are_at_no_distance(seed: int, repeats: int, k1: int) -> None:
    """All lists hold whole sets of duplicates, and their order does not count where all K1 are averaged."""
    k1 = max(k1 // repeats, 1) * repeats
    features = np.repeat(np.random.default_rng(seed).standard_normal((12, 3)), repeats, axis=0)
    distance = dense(jaccard_graph(features, k1=k1, k2=k1, max_distance=0.99))
    assert_graph_of(jaccard_graph(features, k1=k1, k2=k1), naive.jaccard_distance(features, k1, k1), 0.6)
    blocks = np.kron(np.eye(12), np.ones((repeats, repeats))) == 1
    np.testing.assert_allclose(distance[blocks], 0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(250, 800),
    values=st.integers(1, 4),
    threads=st.integers(2, 6),
    seed=st.integers(0, 1000),
    k1=st.integers(1, 30),
)
def test_threads_do_not_change_a_bit_of_tied_features(n: int, values: int, threads: int, seed: int, k1: int) -> None:
    random = np.random.default_rng(seed)
    features, cameras = random.integers(-values, values, (n, 3)), random.integers(-1, 3, n)
    options: dict[str, Any]
    for options in ({"k1": k1, "k2": min(k1, 6)}, {"cameras": cameras, "k1_inter": max(k1, 4)}):
        assert_same(jaccard_graph(features, threads=threads, **options), jaccard_graph(features, threads=1, **options))


@pytest.mark.parametrize("cameras", [None, [0], [-1]])
def test_one_point_is_its_own_graph(cameras: list[int] | None) -> None:
    graph = jaccard_graph([[2.0, 1.0]], cameras=cameras)
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
        ({"k1_intra": 0}, "k1_intra=0 must"),
        ({"k2_inter": 22}, "k2_inter=22 must not exceed k1_inter=21"),
        ({"cameras": [0, 1]}, "cameras of shape"),
        ({"cameras": [0] * 10, "neighbours": np.arange(10)[:, None], "k1": 1, "k2": 1}, "either them or cameras"),
        ({"cameras": [0] * 10, "backend": "faiss"}, "backend='faiss' cannot search among other cameras"),
        ({"group": object()}, "init_process_group"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        jaccard_graph(clustered(10), **options)


def test_no_features() -> None:
    with pytest.raises(ClusteringError, match=r"0 sample\(s\)"):
        jaccard_graph(np.empty((0, 8)))


def test_weights_are_a_softmax_of_the_similarities(clustered: Clustered) -> None:
    points = naive.unit_vectors(clustered(30))
    indptr, indices = np.array([0, 2, 2, 5]), np.array([4, 11, 0, 13, 29], np.int32)
    for run in (jaccard.softmax, cast(Any, jaccard.softmax).py_func):
        rows = Rows(indptr, indices, np.full(5, 0.25, np.float32))
        run(rows)
        np.testing.assert_allclose(rows.weights, [1 / 2] * 2 + [1 / 3] * 3, rtol=1e-6)
    jaccard.weigh(points, rows, 11)
    for point, part in ((11, slice(0, 2)), (13, slice(2, 5))):
        expected = np.exp(2 * points[indices[part]] @ points[point] - 2)
        np.testing.assert_allclose(rows.weights[part], expected / expected.sum(), rtol=1e-6)
