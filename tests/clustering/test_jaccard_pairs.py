from functools import partial
from typing import Any, cast

import numpy as np
import pytest

from reidkit.clustering import NeighbourLists, capacity, jaccard_graph, jaccard_rows, nearest_neighbours
from reidkit.clustering import jaccard_pairs as overlap
from reidkit.clustering.jaccard import weigh
from reidkit.clustering.jaccard_pairs import near_pairs
from reidkit.clustering.parallel import Resources
from reidkit.clustering.sparse_rows import Rows, transpose
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered

WEIGHTS = Rows(np.array([0, 1, 3, 4]), np.array([2, 0, 2, 0], np.int32), np.array([1, 0.75, 0.25, 1], np.float32))


def test_pairs_within_the_bound_both_ways_round(resources: Resources) -> None:
    """Overlaps are 0.25 of points 0 and 1, 0.75 of 1 and 2, none of 0 and 2."""
    near = near_pairs(WEIGHTS, np.float32(0.5), resources)
    assert [array.tolist() for array in near[:2]] == [[0, 1, 3, 5], [0, 1, 2, 1, 2]]
    np.testing.assert_allclose(near.weights, [0, 0, 0.4, 0.4, 0], atol=1e-6)
    wide = near_pairs(WEIGHTS, np.float32(0.9), resources)
    assert wide.indices.tolist() == [0, 1, 0, 1, 2, 1, 2]
    assert wide.weights[1] == np.float32(1 - 0.25 / 1.75)


def test_pairs_beyond_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch, resources: Resources) -> None:
    """All rows are alike, so all of the 2,000 points are near each other: 1,999,000 pairs."""
    n = 2000
    weights = Rows(np.arange(n + 1), np.zeros(n, np.int32), np.ones(n, np.float32))
    monkeypatch.setattr(capacity, "available_memory", lambda: 32_000_000)
    with pytest.raises(ClusteringError, match=r"about 1,9\d\d,\d+ pairs within a distance of 0.6.*6\d.\d MiB.*alike"):
        near_pairs(weights, np.float32(0.6), resources)
    monkeypatch.setattr(capacity, "available_memory", lambda: 70_000_000)
    assert near_pairs(weights, np.float32(0.6), resources).indptr[-1] == n * n


def test_kernels_agree_with_their_python() -> None:
    for run in (overlap.distance, cast(Any, overlap.distance).py_func):
        assert [run(np.float64(s)) for s in (0, 0.5, 1, 1.0000001)] == [1, np.float32(1 - 0.5 / 1.5), 0, 0]
    columns = transpose(WEIGHTS)
    for run in (overlap.meet, cast(Any, overlap.meet).py_func):
        shared, found = np.zeros(3, np.float64), np.zeros(3, np.int32)
        assert run(WEIGHTS, columns, 0, 0, shared, found) == 1
        assert (shared.tolist(), found[0]) == ([0, 0.25, 0], 1)
    for run in (overlap.pairs, cast(Any, overlap.pairs).py_func):
        upper = run(WEIGHTS, columns, np.float32(0.5), 1, 3)
        assert (upper.indptr.tolist(), upper.indices[:1].tolist()) == ([0, 1, 1], [2])
    for run in (overlap.fill_distances, cast(Any, overlap.fill_distances).py_func):
        block = np.zeros((2, 2), np.float32)  # points 0 and 1 by 1 and 2
        run(WEIGHTS, columns, 0, block, 0, 2)
        np.testing.assert_allclose(block, [[1 - 0.25 / 1.75, 1], [0, 0.4]], atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_rows_of_distances_are_those_of_the_graph(rows: int, clustered: Clustered) -> None:
    """Encoded with the weights of the graph."""
    features = clustered(90)
    nearest = nearest_neighbours(features, 12)
    lists = NeighbourLists(nearest, nearest[:, :4].copy(), half=7)
    blocks = list(jaccard_rows(lists, partial(weigh, naive.unit_vectors(features)), 30, rows=rows))
    assert max(map(len, blocks)) == min(rows, 30)
    expected = naive.jaccard_distance(features, 12, 4)[:30, 30:]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)


def test_pairs_of_a_larger_graph_agree_with_their_python(clustered: Clustered) -> None:
    graph = jaccard_graph(clustered(60), k1=12, k2=3, max_distance=0.7)
    rows = Rows(graph.indptr.astype(np.int64), graph.indices, graph.data)
    columns, bound = transpose(rows), np.float32(0.7)
    upper = overlap.pairs(rows, columns, bound, 0, 60)
    plain = cast(Any, overlap.pairs).py_func(rows, columns, bound, 0, 60)
    assert upper.indptr[-1] > 60
    used = upper.indptr[-1]
    assert plain.indptr.tolist() == upper.indptr.tolist()
    np.testing.assert_array_equal(plain.indices[:used], upper.indices[:used])
    np.testing.assert_allclose(plain.weights[:used], upper.weights[:used], atol=1e-7)
