from typing import Any, cast

import numpy as np
import pytest

from reidkit.clustering import capacity
from reidkit.clustering import jaccard_pairs as overlap
from reidkit.clustering.jaccard_pairs import near_pairs
from reidkit.clustering.parallel import Resources
from reidkit.clustering.sparse_rows import Rows, transpose
from reidkit.errors import ClusteringError

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
        assert run(WEIGHTS, columns, 0, shared, found) == 1
        assert (shared.tolist(), found[0]) == ([0, 0.25, 0], 1)
    for run in (overlap.pairs, cast(Any, overlap.pairs).py_func):
        upper = run(WEIGHTS, columns, np.float32(0.5), 1, 3)
        assert (upper.indptr.tolist(), upper.indices[:1].tolist()) == ([0, 1, 1], [2])
