"""Labels at real sizes against the plain computation on square matrices, for every setting that recipes use."""

import numpy as np
import pytest

from benchmarks.clustering import make_features
from benchmarks.plain_jaccard import plain_dbscan, plain_distances, plain_neighbours
from reidkit.clustering import dbscan, jaccard_graph, nearest_neighbours

SETTINGS = [(30, 6), (20, 6), (30, 1), (15, 6)]


@pytest.mark.parametrize(
    "count", [2000, pytest.param(5000, marks=pytest.mark.slow), pytest.param(12_936, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("k1", "k2"), SETTINGS)
@pytest.mark.timeout(1200)
def test_labels_equal_those_of_the_square_matrix(count: int, k1: int, k2: int) -> None:
    features = make_features(count)
    neighbours = nearest_neighbours(features, k1)
    expected = plain_distances(features, neighbours.astype(np.int64), k1=k1, k2=k2, double=True)
    graph = jaccard_graph(features, k1=k1, k2=k2, max_distance=0.7, neighbours=neighbours)
    for eps in (0.4, 0.5, 0.6, 0.7):
        labels, _ = dbscan(graph, eps=eps, min_samples=4)
        np.testing.assert_array_equal(labels, plain_dbscan(expected, eps))
    assert labels.max() > count // 50


def test_the_plain_neighbours_are_the_exact_ones() -> None:
    features = make_features(2000)
    agree = np.sort(plain_neighbours(features, 30)) == np.sort(nearest_neighbours(features, 30))
    assert agree.mean() > 0.9999  # products of the two are rounded differently
