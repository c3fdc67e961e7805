from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.clustering import candidates as search
from reidkit.clustering.cameras import camera_groups, camera_neighbours
from reidkit.clustering.parallel import Resources, open_resources
from reidkit.clustering.rounding import Single
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered


def check(features: Any, cameras: NDArray[Any], k_intra: int, k_inter: int, device: str = "cpu") -> None:
    """Hold the lists against the full ranking, from which the images of the wrong kind are struck."""
    n = len(features)
    with open_resources(2, device=device) as resources:
        points, groups = naive.unit_vectors(features), camera_groups(cameras, n)
        found = camera_neighbours(points, groups, k_intra, k_inter, resources)
    ranked = naive.nearest_neighbours(features, n)
    for i in range(n):
        same = [j for j in ranked[i] if j == i or cameras[j] == cameras[i] != -1]
        other = [j for j in ranked[i] if j not in same]
        for lists, expected, k in ((found[0], same, min(k_intra, n)), (found[1], other, min(k_inter, n - 1))):
            assert lists.shape == (n, k)
            assert lists[i].tolist() == (expected + [-1] * k)[:k]


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("n", [1, 2, 21, 22, 37, 300])
@pytest.mark.parametrize("count", [1, 2, 5, 300])
def test_twin(n: int, count: int, device: str, clustered: Clustered) -> None:
    check(clustered(n), np.random.default_rng(1).integers(-1, count, n), 6, 21, device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_twin_beyond_one_tile(device: str, monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    monkeypatch.setattr(search, "_TILE", 64)
    monkeypatch.setattr(search, "_DEVICE_TILE", (64, 100))
    check(clustered(330), np.random.default_rng(1).integers(-1, 4, 330), 6, 21, device)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 60), count=st.integers(0, 5), k=st.integers(1, 30))
def test_twin_with_many_ties(seed: int, n: int, count: int, k: int) -> None:
    random = np.random.default_rng(seed)
    check(random.integers(-2, 3, (n, 2)), random.integers(-1, count, n), k, k)


def test_close_calls_are_settled_within_the_kind(monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    monkeypatch.setattr(Single, "margin", 0)
    check(1 + 1e-4 * clustered(300), np.random.default_rng(1).integers(-1, 4, 300), 10, 10)


def test_images_of_unknown_cameras_have_groups_of_their_own() -> None:
    groups = camera_groups(np.array([4, -1, 0, 4, -1], np.int8), 5)
    assert groups.dtype == np.int32
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 4


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ([0, 1], r"cameras of shape \(2,\).*do not fit 3 features"),
        ([0.0, 1.0, 2.0], "float64"),
        ([[0], [1], [2]], r"\(3, 1\)"),
        ([0, -2, 1], "camera -2 is not a number from 0, nor -1"),
    ],
)
def test_cameras_must_fit(cameras: Any, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        camera_groups(cameras, 3)


def test_faiss_knows_no_cameras(resources: Resources) -> None:
    points, groups = np.eye(4, dtype=np.float32), np.arange(4, dtype=np.int32)
    with pytest.raises(ClusteringError, match="pass backend='torch'"):
        camera_neighbours(points, groups, 2, 2, resources._replace(backend="faiss"))
