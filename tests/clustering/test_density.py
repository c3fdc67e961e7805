from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from reidkit.clustering import dbscan
from reidkit.clustering.density import core_distances, measure_core
from reidkit.clustering.sparse_rows import graph_rows
from reidkit.errors import ClusteringError
from tests.clustering.test_quality import random_graph


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


def test_compiled_and_plain_and_sorted_agree() -> None:
    distance, graph = random_graph(50, 1, 0.3)
    for kernel in (measure_core, cast(Any, measure_core).py_func):
        core = np.empty(50, np.float32)
        kernel(graph_rows(graph), 3, core, 0, 50)
        np.testing.assert_array_equal(core, np.sort(distance, axis=1)[:, 3])


def test_one_thread_and_many_agree() -> None:
    _, graph = random_graph(700, 2, 0.1)
    np.testing.assert_array_equal(core_distances(graph, 4, threads=1), core_distances(graph, 4, threads=4))


@pytest.mark.parametrize(
    ("shape", "min_samples", "message"), [((3, 2), 4, "is no square sparse matrix"), ((3, 3), 0, "min_samples=0")]
)
def test_what_has_no_core_distances_is_refused(shape: tuple[int, int], min_samples: int, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        core_distances(csr_array(shape), min_samples)
