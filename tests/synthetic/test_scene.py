import numpy as np
import pytest

from reidkit.synthetic.config import Style
from reidkit.synthetic.scene import SCENE_HEIGHT, SCENE_WIDTH, Scene, scene_of


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(scene.picture).astype(float)


def test_a_place_follows_from_seed_style_and_camera() -> None:
    first = pixels(scene_of(0, "summer", 2))
    scene_of.cache_clear()
    np.testing.assert_array_equal(first, pixels(scene_of(0, "summer", 2)))
    assert first.shape == (SCENE_HEIGHT, SCENE_WIDTH, 3)


@pytest.mark.parametrize("style", ["summer", "winter"])
def test_places_differ_within_and_between_cameras(style: Style) -> None:
    scenes = [scene_of(0, style, camera) for camera in range(6)]
    means = np.array([pixels(scene).mean(axis=(0, 1)) for scene in scenes])
    distances = np.abs(means[:, None] - means[None]).sum(axis=2)
    assert (distances[~np.eye(6, dtype=bool)] > 3).all()
    for scene in scenes:
        tiles = pixels(scene)[scene.base + 20 :: 40, ::70].mean(axis=2)
        assert tiles.std() > 4


def test_perspective_grows_towards_the_camera() -> None:
    scene = scene_of(0, "summer", 0)
    assert scene.scale(600) > 2 * scene.scale(scene.base)
    assert 0.2 < scene.pitch(scene.base) < scene.pitch(600) < 0.8


def test_the_light_comes_from_above_and_is_a_unit_vector() -> None:
    for camera in range(6):
        scene = scene_of(0, "summer", camera)
        assert np.linalg.norm(scene.light) == pytest.approx(1, abs=1e-5)
        assert scene.light[1] > 0.4
        assert 0.1 < scene.sun < 0.7


def test_winter_lies_under_snow() -> None:
    def snow(style: Style) -> float:
        shares = []
        for camera in range(6):
            scene = scene_of(0, style, camera)
            ground = pixels(scene)[scene.base :]
            shares.append(((ground.min(axis=2) > 185) & (np.ptp(ground, axis=2) < 40)).mean())
        return float(np.median(shares))

    assert snow("winter") > 0.08 > snow("summer")
