from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reidkit.clustering import nearest_neighbours, rounding
from reidkit.clustering.rounding import Half, Single, try_half
from tests import naive
from tests.clustering.conftest import Clustered


def products(points: NDArray[np.float32], kind: torch.dtype) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inner products (N, N), true ones and rounded ones."""
    wide = points.astype(np.float64)
    tensor = torch.from_numpy(points).to(kind)
    return wide @ wide.T, (tensor @ tensor.T).double().numpy()


@pytest.mark.parametrize("spread", [0.01, 1.0])
@pytest.mark.parametrize("half", [True, False])
def test_nothing_left_out_is_above_the_ceiling(half: bool, spread: float, clustered: Clustered) -> None:
    points = naive.unit_vectors(1 + spread * clustered(400))
    bounds: Any = Half.of(points) if half else Single.of(points.shape[1])
    true, rounded = products(points, torch.bfloat16 if half else torch.float32)
    for place in (0, 50, 399):
        floor = np.sort(rounded, axis=1)[:, place].astype(np.float32)
        left_out = np.where(rounded <= floor[:, None], true, -np.inf)
        ceiling = bounds.ceiling(floor)
        assert (left_out.max(axis=1) <= ceiling).all()
        assert (ceiling <= floor + (0.02 if half else 1e-4)).all()
    assert np.isneginf(bounds.ceiling(np.full(400, -np.inf, np.float32))).all()


@pytest.fixture
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bfloat16 for small sets too, and on any processor: without the hardware it is slow and as right."""
    monkeypatch.setattr(rounding, "_BLOCK", 100)
    monkeypatch.setattr(rounding, "cpu_has_bf16", lambda: True)


@pytest.mark.usefixtures("_everywhere")
def test_neighbours_are_the_same(clustered: Clustered) -> None:
    features = clustered(600, d=48)
    points = naive.unit_vectors(features)
    assert try_half(points, 10, None) is not None
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))


@pytest.mark.usefixtures("_everywhere")
def test_rows_in_doubt_are_searched_again(clustered: Clustered, monkeypatch: pytest.MonkeyPatch) -> None:
    """A margin of nothing leaves every row in doubt."""
    features = clustered(600, d=48)
    monkeypatch.setattr(rounding.Half, "margin", 0)
    monkeypatch.setattr("reidkit.clustering.libraries.try_half", lambda points, k, groups: Half.of(points))
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))


@pytest.mark.usefixtures("_everywhere")
def test_similarities_too_close_for_bfloat16_are_left_to_float32(clustered: Clustered) -> None:
    points = naive.unit_vectors(1 + 1e-3 * clustered(300))
    assert try_half(points, 10, None) is None


@pytest.mark.usefixtures("_everywhere")
def test_a_processor_that_breaks_the_bounds_is_not_trusted(
    clustered: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = naive.unit_vectors(clustered(300))
    monkeypatch.setattr(Half, "of", classmethod(lambda cls, given: cls(np.full(len(given), 1e-9))))
    assert try_half(points, 10, None) is None


@pytest.mark.parametrize("n", [50, 99, 100, 142])
def test_small_sets_and_other_processors_keep_float32(
    n: int, clustered: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_BLOCK", 100)
    monkeypatch.setattr(rounding, "cpu_has_bf16", lambda: n < 142)
    assert try_half(naive.unit_vectors(clustered(n)), 110, None) is None
