from typing import Any, cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.clustering import nearest_neighbours, reciprocal
from reidkit.clustering.parallel import Resources
from reidkit.clustering.reciprocal import NeighbourLists, ReciprocalDepth, encode
from reidkit.clustering.sparse_rows import Rows
from tests import naive
from tests.clustering.conftest import Clustered


def test_encodings_average_the_weights_of_the_reciprocal_sets(clustered: Clustered, resources: Resources) -> None:
    """Members of equal weight: without half sets, the mean over two neighbours of 1 / |S(j)| on each set S(j)."""
    n, k = 60, 12
    neighbours = nearest_neighbours(clustered(n), k)
    sets = [{int(j) for j in neighbours[i] if i in neighbours[j]} for i in range(n)]

    def weigh(rows: Rows, first: int) -> None:
        sizes = np.diff(rows.indptr)
        assert sizes.tolist() == [len(sets[first + i]) for i in range(len(sizes))]
        rows.weights[: rows.indptr[-1]] = np.repeat(1 / sizes, sizes)

    rows = encode(NeighbourLists(neighbours, neighbours[:, :2].copy(), half=0), weigh, resources)
    for i in range(n):
        expected = np.zeros(n)
        for j in neighbours[i, :2]:
            expected[list(sets[j])] += 0.5 / len(sets[j])
        found, entries = np.zeros(n), slice(rows.indptr[i], rows.indptr[i + 1])
        found[rows.indices[entries]] = rows.weights[entries]
        np.testing.assert_allclose(found, expected, atol=1e-7)


def same(rows: Rows, other: Rows) -> None:
    used = rows.indptr[-1]
    np.testing.assert_array_equal(rows.indptr, other.indptr)
    np.testing.assert_array_equal(rows.indices[:used], other.indices[:used])
    np.testing.assert_allclose(rows.weights[:used], other.weights[:used], atol=1e-7)


def test_kernels_agree_with_their_python(clustered: Clustered) -> None:
    neighbours = nearest_neighbours(naive.unit_vectors(clustered(60)), 12)
    depth, plain = (ReciprocalDepth(neighbours, np.zeros_like(neighbours)) for _ in range(2))
    reciprocal.measure_depth(depth, 0, 60)
    cast(Any, reciprocal.measure_depth).py_func(plain, 0, 60)
    np.testing.assert_array_equal(depth.depth, plain.depth)
    rows, expanded = reciprocal.expand(depth, 7, 0, 60), cast(Any, reciprocal.expand).py_func(depth, 7, 0, 60)
    for one in (rows, expanded):
        one.weights[:] = 0.25
    same(rows, expanded)
    averaged = neighbours[:, :3].copy()
    same(
        reciprocal.average(rows, averaged, 0, 60),
        cast(Any, reciprocal.average).py_func(expanded, averaged, 0, 60),
    )


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 25), width=st.integers(1, 9), half=st.integers(0, 9), seed=st.integers(0, 1000))
def test_kernels_agree_with_their_python_on_lists_that_end_early(n: int, width: int, half: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    width, half = min(width, n), min(half, width, n)
    neighbours = np.stack([random.permutation(n) for _ in range(n)])[:, :width].astype(np.int32)
    neighbours[np.arange(width) > random.integers(0, width, (n, 1))] = -1
    neighbours[:, 0] = np.arange(n)
    depth, plain = (ReciprocalDepth(neighbours, np.zeros_like(neighbours)) for _ in range(2))
    reciprocal.measure_depth(depth, 0, n)
    cast(Any, reciprocal.measure_depth).py_func(plain, 0, n)
    np.testing.assert_array_equal(depth.depth, plain.depth)
    rows = reciprocal.expand(depth, half, 0, n)
    rows.weights[:] = random.random(rows.weights.size)
    expanded = cast(Any, reciprocal.expand).py_func(depth, half, 0, n)
    expanded.weights[: rows.indptr[-1]] = rows.weights[: rows.indptr[-1]]
    same(rows, expanded)
    same(reciprocal.average(rows, neighbours, 0, n), cast(Any, reciprocal.average).py_func(rows, neighbours, 0, n))


def test_small_kernels_agree_with_their_python(clustered: Clustered) -> None:
    neighbours = nearest_neighbours(clustered(40), 12)
    depth = ReciprocalDepth(neighbours, np.zeros_like(neighbours))
    reciprocal.measure_depth(depth, 0, 40)
    for run in (reciprocal.collect, cast(Any, reciprocal.collect).py_func):
        state, found = np.zeros(40, np.uint8), np.zeros(40, np.int32)
        count = run(depth, 7, 3, state, found)
        assert sorted(found[:count].tolist()) == np.flatnonzero(state).tolist()
        assert found[0] == 3


def test_half_sets_of_exactly_two_thirds_do_not_expand() -> None:
    """S(0) is 0, 1 and the half set of 1 is 0, 1, 2: two of its three lie inside, and more must."""
    neighbours = np.array(
        [[0, 1, 3, 4], [1, 0, 2, 3], [2, 1, 3, 4], [3, 4, 2, 5], [4, 3, 5, 2], [5, 4, 3, 2]], np.int32
    )
    depth = ReciprocalDepth(neighbours, np.zeros_like(neighbours))
    reciprocal.measure_depth(depth, 0, 6)
    rows = reciprocal.expand(depth, 3, 0, 6)
    assert sorted(rows.indices[: rows.indptr[1]].tolist()) == [0, 1]
