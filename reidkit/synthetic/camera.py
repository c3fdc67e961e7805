"""Cameras: colour cast, tone, blur, noise, resolution and compression, one character for each."""

from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from reidkit.synthetic.config import Style
from reidkit.synthetic.randomness import stream
from reidkit.synthetic.raster import Array

__all__ = ["Camera", "camera_of", "develop", "encode_jpeg"]

_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Camera:
    """Optics and processing of one camera.

    Attributes:
        gains: White-balance gains of red, green and blue.
        exposure: Factor on the light.
        gamma: Exponent of the tone curve; above 1 darkens the middle tones.
        haze: Light added everywhere, 0 to 0.15.
        contrast: Slope about mid-grey.
        saturation: 0 grey, 1 faithful.
        blur: Standard deviation in pixels of an image 128 pixels high.
        noise: Standard deviation, share of the full range.
        resolution: Share of the image's own resolution that the sensor has, 0 to 1.
        quality: JPEG quality, 1 to 95.
    """

    gains: tuple[float, float, float]
    exposure: float
    gamma: float
    haze: float
    contrast: float
    saturation: float
    blur: float
    noise: float
    resolution: float
    quality: int


@lru_cache(maxsize=128)
def camera_of(seed: int, style: Style, number: int) -> Camera:
    """The camera of a number, >= 0; neighbouring numbers have casts of distant hues."""
    rng = stream("camera", seed, style, number)
    spread = partial(_spread, number + (0.37 if style == "winter" else 0.0))
    hue = 2 * np.pi * (spread(0.0) + rng.normal(0, 0.03))
    cast = (0.14 if style == "winter" else 0.10) + 0.10 * spread(0.35)
    red, green, blue = np.exp(cast * np.cos(hue - np.array([0, 2, 4]) * np.pi / 3)).tolist()
    dusk = 0.75 if style == "winter" else 1.0
    return Camera(
        gains=(red, green, blue),
        exposure=dusk * float(np.exp(0.4 * (spread(0.6) - 0.5) + rng.normal(0, 0.04))),
        gamma=0.85 + 0.3 * spread(0.15),
        haze=0.03 * spread(0.8) ** 2,
        contrast=0.85 + 0.3 * spread(0.5),
        saturation=0.7 + 0.45 * spread(0.25),
        blur=0.3 + 0.45 * spread(0.9),
        noise=0.004 + 0.008 * spread(0.7),
        resolution=(1.0, 0.8, 0.6)[number % 3],
        quality=62 + int(30 * spread(0.05)),
    )


def _spread(place: float, shift: float) -> float:
    """Evenly scattered values, 0 to 1, over neighbouring places; another shift scatters independently."""
    return (place * _GOLDEN * (1 + shift) + shift) % 1.0


def develop(light: Array, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """The 8-bit picture that a camera takes of linear RGB light (H, W, 3), with noise of the image's random stream."""
    height, width = light.shape[:2]
    sigma = camera.blur * height / 128
    light = light * np.array(camera.gains, dtype=np.float32) * np.float32(camera.exposure) + np.float32(camera.haze)
    grey = light @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    light = grey[..., None] + (light - grey[..., None]) * np.float32(camera.saturation)
    light = np.maximum(light, 0)
    shoulder = light / (1 + np.float32(0.18) * light)
    picture = np.minimum(shoulder, 1) ** np.float32(camera.gamma / 2.2)
    picture = (picture - np.float32(0.45)) * np.float32(camera.contrast) + np.float32(0.45)
    small = (max(1, round(width * camera.resolution)), max(1, round(height * camera.resolution)))
    image = _image(picture).filter(ImageFilter.GaussianBlur(sigma)).resize(small, Image.Resampling.BOX)
    noise = rng.standard_normal((small[1], small[0], 3), dtype=np.float32) * np.float32(camera.noise)
    noise = noise * np.float32(0.6) + noise.mean(axis=2, keepdims=True)
    image = _image(np.asarray(image, dtype=np.float32) / 255 + noise)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode_jpeg(image: Image.Image, camera: Camera) -> bytes:
    """The picture as the camera stores it."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=camera.quality)
    return buffer.getvalue()


def _image(picture: Array) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
