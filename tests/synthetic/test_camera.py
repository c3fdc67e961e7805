from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from reidkit.synthetic.camera import Camera, camera_of, develop, encode_jpeg
from reidkit.synthetic.raster import Array

PLAIN = Camera(
    gains=(1, 1, 1),
    exposure=1,
    gamma=1,
    haze=0,
    contrast=1,
    saturation=1,
    blur=0,
    noise=0,
    resolution=1,
    quality=95,
)


def grey(level: float, size: int = 32) -> Array:
    return np.full((size, size, 3), level, dtype=np.float32)


def taken(light: Array, camera: Camera) -> np.ndarray:
    return np.asarray(develop(light, camera, np.random.default_rng(0))).astype(float)


def test_every_parameter_does_what_it_says() -> None:
    plain = taken(grey(0.2), PLAIN)
    warm = taken(grey(0.2), replace(PLAIN, gains=(1.2, 1.0, 0.8))).mean(axis=(0, 1))
    assert warm[0] > plain.mean() > warm[2]
    assert taken(grey(0.2), replace(PLAIN, exposure=0.5)).mean() < plain.mean() - 20
    assert taken(grey(0.2), replace(PLAIN, gamma=1.3)).mean() < plain.mean() - 10
    assert taken(grey(0.0), replace(PLAIN, haze=0.05)).mean() > 30
    colored = grey(0.2) * np.array([1.5, 1.0, 0.5], dtype=np.float32)
    assert np.ptp(taken(colored, replace(PLAIN, saturation=0.0)).mean(axis=(0, 1))) < 1
    assert taken(grey(0.2), replace(PLAIN, noise=0.05)).std() > 5 > plain.std()
    edge = grey(0.05)
    edge[:, 16:] = 0.6
    steep = np.abs(np.diff(taken(edge, PLAIN)[16, :, 0])).max()
    for softer in (replace(PLAIN, blur=4), replace(PLAIN, resolution=0.4), replace(PLAIN, contrast=0.6)):
        assert np.abs(np.diff(taken(edge, softer)[16, :, 0])).max() < 0.8 * steep


def test_cameras_differ_but_keep_hues_apart() -> None:
    colors = np.array([[0.5, 0.05, 0.05], [0.05, 0.4, 0.08], [0.04, 0.08, 0.5], [0.5, 0.4, 0.05]], dtype=np.float32)
    means = np.empty((6, 4, 3))
    for number in range(6):
        for i, color in enumerate(colors):
            means[number, i] = taken(np.broadcast_to(color, (16, 16, 3)), camera_of(0, "summer", number)).mean(
                axis=(0, 1)
            )
    same_color = np.linalg.norm(means[:, None] - means[None], axis=3)
    assert same_color[~np.eye(6, dtype=bool)].min() > 3
    between_colors = np.linalg.norm(means[:, :, None] - means[:, None], axis=3)
    assert between_colors[:, ~np.eye(4, dtype=bool)].min() > same_color.max()


def test_a_camera_follows_from_its_number_and_any_number_will_do() -> None:
    first = camera_of(0, "summer", 3)
    camera_of.cache_clear()
    assert camera_of(0, "summer", 3) == first
    cameras = {camera_of(0, style, number) for style in ("summer", "winter") for number in range(40)}
    assert len(cameras) == 80
    assert all(0.5 <= camera.resolution <= 1 and 60 <= camera.quality <= 95 for camera in cameras)


@pytest.mark.parametrize("number", range(3))
def test_jpeg_keeps_the_size(number: int) -> None:
    camera = camera_of(0, "summer", number)
    image = develop(grey(0.3), camera, np.random.default_rng(0))
    decoded = Image.open(BytesIO(encode_jpeg(image, camera)))
    assert decoded.format == "JPEG"
    assert decoded.size == image.size == (32, 32)
