from typing import Any, cast

import numpy as np

from reidkit.clustering.parallel import Resources
from reidkit.clustering.sparse_rows import Rows, all_rows, empty_rows, join, reserve, stack, transpose


def test_stacking_drops_the_room_after_the_last_entry() -> None:
    first = Rows(np.array([0, 1, 3]), np.array([4, 5, 6, 9, 9], np.int32), np.array([1, 2, 3, 9, 9], np.float32))
    empty = Rows(np.array([0, 0]), np.empty(0, np.int32), np.empty(0, np.float32))
    last = Rows(np.array([0, 2]), np.array([7, 8], np.int32), np.array([4, 5], np.float32))
    rows = stack([first, empty, last])
    assert rows.indptr.tolist() == [0, 1, 3, 3, 5]
    assert rows.indices.tolist() == [4, 5, 6, 7, 8]
    assert rows.weights.tolist() == [1, 2, 3, 4, 5]
    assert [array.dtype for array in rows] == [np.int64, np.int32, np.float32]


def test_rows_begin_empty_and_grow() -> None:
    for run in (empty_rows, cast(Any, empty_rows).py_func):
        assert [array.tolist() for array in run(2)] == [[0, 0, 0], [], []]
    for run in (reserve, cast(Any, reserve).py_func):
        rows = Rows(np.array([0, 2]), np.array([4, 7], np.int32), np.array([0.5, 0.25], np.float32))
        assert run(rows, 1, 1).indices.size == 2
        grown = run(rows, 2, 3)
        assert grown.indices.size == grown.weights.size == 10
        assert grown.indices[:2].tolist() == [4, 7]
        assert grown.weights[:2].tolist() == [0.5, 0.25]


def test_triangles_are_joined_around_a_diagonal_of_zeros() -> None:
    upper = Rows(np.array([0, 2, 2, 2]), np.array([2, 1], np.int32), np.array([0.5, 0.25], np.float32))
    lower = transpose(upper)
    assert [array.tolist() for array in lower] == [[0, 0, 1, 2], [0, 0], [0.25, 0.5]]
    assert [array.dtype for array in lower] == [np.int64, np.int32, np.float32]
    for run in (join, cast(Any, join).py_func):
        full = run(lower, transpose(lower))
        assert full.indptr.tolist() == [0, 3, 5, 7]
        assert full.indices.tolist() == [0, 1, 2, 0, 1, 0, 2]
        assert full.weights.tolist() == [0, 0.25, 0.5, 0.25, 0, 0.5, 0]


def test_all_rows_are_computed_in_blocks(resources: Resources) -> None:
    def number(start: int, stop: int) -> Rows:
        rows = np.arange(start, stop, dtype=np.int32)
        return Rows(np.arange(stop - start + 1), rows, rows.astype(np.float32))

    rows = all_rows(number, 1000, resources)
    assert rows.indptr.tolist() == list(range(1001))
    assert rows.indices.tolist() == rows.weights.tolist() == list(range(1000))
