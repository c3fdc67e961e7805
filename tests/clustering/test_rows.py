import numpy as np

from reidkit.clustering.rows import Rows, stack


def test_stacking_drops_the_room_after_the_last_entry() -> None:
    first = Rows(np.array([0, 1, 3]), np.array([4, 5, 6, 9, 9], np.int32), np.array([1, 2, 3, 9, 9], np.float32))
    empty = Rows(np.array([0, 0]), np.empty(0, np.int32), np.empty(0, np.float32))
    last = Rows(np.array([0, 2]), np.array([7, 8], np.int32), np.array([4, 5], np.float32))
    rows = stack([first, empty, last])
    assert rows.indptr.tolist() == [0, 1, 3, 3, 5]
    assert rows.indices.tolist() == [4, 5, 6, 7, 8]
    assert rows.weights.tolist() == [1, 2, 3, 4, 5]
    assert [array.dtype for array in rows] == [np.int64, np.int32, np.float32]
