from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reidkit.clustering import nearest_neighbours, neighbours
from reidkit.clustering.neighbours import (
    Ranking,
    TopK,
    fill_similarities,
    insert,
    rank,
    similarity,
)
from reidkit.clustering.rounding import Single
from reidkit.clustering.sparse_rows import Rows
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered, FlatIndex, fake_faiss


@pytest.mark.parametrize("n", [1, 2, 29, 30, 46, 47, 500])
@pytest.mark.parametrize("k", [1, 2, 30])
def test_twin(n: int, k: int, clustered: Clustered) -> None:
    features = clustered(n)
    found = nearest_neighbours(features, k)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, naive.nearest_neighbours(features, k))


def test_twin_beyond_one_tile(clustered: Clustered) -> None:
    features = clustered(2500, d=16)
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))


@settings(max_examples=60, deadline=None)
@given(
    features=arrays(np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(-2, 2)),
    k=st.integers(1, 30),
)
def test_twin_with_many_ties(features: Any, k: int) -> None:
    np.testing.assert_array_equal(nearest_neighbours(features, k), naive.nearest_neighbours(features, k))


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5])
def test_equal_features_come_by_index_after_the_point_itself(value: float) -> None:
    found = nearest_neighbours(np.full((200, 24), value), 4)
    np.testing.assert_array_equal(found[:4], [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]])
    np.testing.assert_array_equal(found[4:, 1:], np.tile([0, 1, 2], (196, 1)))
    np.testing.assert_array_equal(found[:, 0], np.arange(200))


def test_groups_of_duplicates_larger_than_the_candidates(clustered: Clustered) -> None:
    features = np.random.default_rng(1).permutation(np.repeat(clustered(12), 50, axis=0))
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))


def test_close_calls_are_settled(monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    features = 1 + 1e-4 * clustered(300)
    monkeypatch.setattr(Single, "margin", 0)
    monkeypatch.setattr(neighbours, "_SETTLE_SCORES", 3000)
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))


def test_backends_devices_and_threads_agree(monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    fake_faiss(monkeypatch)
    features = clustered(700)
    expected = nearest_neighbours(features, 20, threads=1)
    np.testing.assert_array_equal(nearest_neighbours(features, 20, threads=3), expected)
    np.testing.assert_array_equal(nearest_neighbours(features, 20, backend="torch", device="cpu:0"), expected)
    np.testing.assert_array_equal(nearest_neighbours(features, 20, backend="faiss"), expected)


@pytest.mark.parametrize(("n", "count", "k"), [(1, 1, 1), (5, 3, 30), (300, 40, 1), (300, 40, 20), (2500, 7, 10)])
@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_twin_of_queries(
    n: int, count: int, k: int, backend: str, monkeypatch: pytest.MonkeyPatch, clustered: Clustered
) -> None:
    fake_faiss(monkeypatch)
    features, queries = clustered(n), clustered(count, seed=1)
    queries[0] = features[0]
    found = nearest_neighbours(features, k, queries=queries, backend=backend)
    points, asked = (naive.unit_vectors(rows).astype(np.float64) for rows in (features, queries))
    expected = np.argsort(-(asked @ points.T).astype(np.float32), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (count, min(k, n))


def test_queries_among_duplicates_find_them_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.repeat(np.eye(3), 60, axis=0)
    found = nearest_neighbours(features, 4, queries=[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(found, [[60, 61, 62, 63], [0, 1, 2, 3]])


def test_queries_must_have_the_dimensions_of_the_features(clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match="queries of 3 dimensions cannot be compared with features of 32"):
        nearest_neighbours(clustered(5), 2, queries=np.ones((1, 3)))


def test_an_approximate_search_says_what_it_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    fake_faiss(monkeypatch, IndexIVFFlat=InvertedLists, METRIC_INNER_PRODUCT=0)
    features = clustered(800)
    found = nearest_neighbours(features, 20, backend="approximate")
    exact = nearest_neighbours(features, 20)
    rows = np.unique(np.linspace(0, 799, 256).astype(int))
    recall = np.mean([len(set(found[i]) & set(exact[i])) / 20 for i in rows])
    assert 0.3 < recall < 1
    (message,) = caplog.messages
    assert f"{100 * recall:.2f} % of the true neighbours found, in a sample of 256 of 800" in message
    np.testing.assert_array_equal(found[:, 0], np.arange(800))


def test_inverted_lists_of_faiss(clustered: Clustered, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("faiss", reason="faiss is an extra")
    features = clustered(6000)
    found = nearest_neighbours(features, 20, backend="approximate")
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found, nearest_neighbours(features, 20), strict=True)]) > 18
    assert "of the true neighbours found" in caplog.text


class InvertedLists(FlatIndex):
    """The part of faiss.IndexIVFFlat that the search uses: one point in four is never found."""

    nprobe = 0

    def __init__(self, quantizer: FlatIndex, dimension: int, lists: int, metric: int) -> None:
        super().__init__(dimension)
        assert (lists, metric) == (20, 0)

    def train(self, points: Any) -> None:
        assert len(points) == 800

    def search(self, queries: Any, k: int) -> tuple[Any, Any]:
        assert self.nprobe == 20
        scores = queries @ self.points.T
        scores[:, ::4] = -np.inf
        indices = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, indices, axis=1), indices


def test_scale_and_precision_of_the_features_do_not_matter(clustered: Clustered) -> None:
    features = clustered(200)
    scale = np.random.default_rng(0).integers(-3, 3, (200, 1))
    expected = nearest_neighbours(features, 8)
    np.testing.assert_array_equal(nearest_neighbours(features.astype(np.float64), 8), expected)
    np.testing.assert_array_equal(nearest_neighbours(np.ldexp(features, scale), 8), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0 must be an integer of at least 1"),
        ({"k": 1, "backend": "annoy"}, "backend='annoy' is unknown; choose"),
        ({"k": 3, "threads": 0}, "threads=0"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str, clustered: Clustered) -> None:
    with pytest.raises(ClusteringError, match=message):
        nearest_neighbours(clustered(5), **options)


@pytest.mark.parametrize("compiled", [True, False])
def test_short_list_keeps_the_best(compiled: bool) -> None:
    run = insert if compiled else cast(Any, insert).py_func
    random = np.random.default_rng(0)
    entries = [(np.float32(score), index) for index, score in enumerate(random.integers(0, 5, 40))]
    for size in (1, 7, 40):
        best, count = TopK(np.empty(size, np.float32), np.empty(size, np.int32)), 0
        for place in random.permutation(40):
            count = run(best, count, *entries[place])
        expected = sorted(entries, key=lambda entry: (-entry[0], entry[1]))[:size]
        assert count == size
        assert list(zip(best.scores, best.indices, strict=True)) == expected


@pytest.mark.parametrize("itself", [True, False])
def test_ranking_agrees_with_its_python(itself: bool, monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    points = naive.unit_vectors(clustered(30))
    products = (points.astype(np.float64) @ points.T.astype(np.float64)).astype(np.float32)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(expected, naive.nearest_neighbours(points, 5))  # no duplicates
    candidates = np.tile(np.arange(-1, 30, dtype=np.int32), (30, 1))
    for compiled in (True, False):
        if not compiled:
            for name in ("insert", "rank_row", "similarity"):
                monkeypatch.setattr(neighbours, name, getattr(neighbours, name).py_func)
        ranking = Ranking(np.zeros((30, 5), np.int32), np.zeros(30, np.float32), itself)
        (rank if compiled else cast(Any, rank).py_func)(points, points, candidates, ranking, 0, 30)
        np.testing.assert_array_equal(ranking.neighbours, expected)
        np.testing.assert_array_equal(ranking.last, np.take_along_axis(products, expected, 1)[:, -1])


def test_similarity_agrees_with_its_python(clustered: Clustered) -> None:
    a, b = naive.unit_vectors(clustered(2, d=100))
    expected = np.float32(a.astype(np.float64) @ b.astype(np.float64))
    for run in (similarity, cast(Any, similarity).py_func):
        assert run(a, b) == run(b, a) == expected


def test_similarities_of_sparse_rows(clustered: Clustered) -> None:
    points = naive.unit_vectors(clustered(30))
    indptr, indices = np.array([0, 2, 2, 5]), np.array([4, 11, 0, 13, 29], np.int32)
    expected = [points[11] @ points[j] for j in (4, 11)] + [points[13] @ points[j] for j in (0, 13, 29)]
    for run in (fill_similarities, cast(Any, fill_similarities).py_func):
        rows = Rows(indptr, indices, np.zeros(5, np.float32))
        run(points, rows, 11)
        np.testing.assert_allclose(rows.weights, expected, atol=1e-6)
