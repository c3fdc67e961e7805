from itertools import combinations

import numpy as np
import pytest

from reidkit.reporting.cameras import camera_confusion


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_counted_by_their_cameras(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, cameras = rng.integers(-1, 5, 80), rng.integers(-1, 4, 80) * 2
    cameras[cameras < 0] = -1
    found = camera_confusion(labels, cameras)
    assert isinstance(found, dict)
    used = [index for index in range(80) if labels[index] >= 0 and cameras[index] >= 0]
    together = [(a, b) for a, b in combinations(used, 2) if labels[a] == labels[b]]
    kinds = [tuple(sorted((int(cameras[a]), int(cameras[b])))) for a, b in together]
    names = [int(name) for name in found["cameras"]]
    assert names == [0, 2, 4, 6]
    for row, camera in enumerate(names):
        expected = [100 * kinds.count((other, camera)) / len(kinds) for other in names[: row + 1]]
        assert found["rows"][row] == pytest.approx(expected)
    across = np.mean([a != b for a, b in kinds])
    chance = np.mean([cameras[a] != cameras[b] for a, b in combinations(used, 2)])
    assert found["summary"].startswith(f"{100 * across:.1f} % of the pairs")
    assert f"it would be {100 * chance:.1f} %." in found["summary"]


def test_of_many_cameras_the_busiest_are_shown() -> None:
    cameras = np.repeat(np.arange(30), np.arange(30) + 2)
    found = camera_confusion(np.zeros_like(cameras), cameras)
    assert isinstance(found, dict)
    assert found["cameras"] == [str(camera) for camera in range(10, 30)]
    assert "shows the 20 cameras with the most images, of 30" in found["summary"]


@pytest.mark.parametrize(
    ("labels", "cameras", "why"),
    [
        ([0, 0], [-1, -1], "are unknown"),
        ([-1, -1], [0, 1], "are unknown"),
        ([0, 0], [1, 1], "of one camera"),
        ([0, 1], [0, 1], "No cluster holds two"),
    ],
)
def test_what_cannot_be_known_is_said(labels: list[int], cameras: list[int], why: str) -> None:
    found = camera_confusion(np.array(labels), np.array(cameras))
    assert isinstance(found, str)
    assert why in found
