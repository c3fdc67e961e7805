"""Places: a ground in perspective before a backdrop, one for each camera, of which every image sees a part."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from reidkit.synthetic.backdrop import KINDS, Backdrop, draw_backdrop
from reidkit.synthetic.config import Style
from reidkit.synthetic.randomness import stream
from reidkit.synthetic.raster import Array

__all__ = ["SCENE_HEIGHT", "SCENE_WIDTH", "Scene", "scene_of"]

SCENE_WIDTH, SCENE_HEIGHT = 1400, 640
_HORIZON = -70.0
_LENS_HEIGHT = 3.5
_FOCAL = 900.0
_MIDDLE = 118.0
_FADING: dict[Style, tuple[float, float]] = {"summer": (0.8, 0.72), "winter": (1.0, 0.85)}

_GROUNDS = {
    "pavement": (156, 150, 142),
    "shops": (134, 118, 108),
    "park": (104, 114, 74),
    "wall": (150, 140, 128),
    "road": (98, 99, 102),
    "hall": (176, 168, 156),
}
_SLABS = {"pavement": (0.6, 0.6), "shops": (0.24, 0.12), "wall": (1.5, 1.5), "hall": (0.8, 0.8)}


@dataclass(frozen=True)
class Scene:
    """A place.

    Attributes:
        picture: The empty place, RGB, `SCENE_WIDTH` x `SCENE_HEIGHT`.
        base: Row where the ground meets the backdrop.
        light: Unit vector towards the light in view space, (3,).
        sun: Share of directed light, 0 to 1.
    """

    picture: Image.Image
    base: int
    light: Array
    sun: float

    def scale(self, row: float) -> float:
        """Pixels per metre where the ground is seen in a row."""
        return (row - _HORIZON) / _LENS_HEIGHT

    def pitch(self, row: float) -> float:
        """Angle at which the camera looks down on the ground in a row, radians."""
        return float(np.arctan((row - _HORIZON) / _FOCAL))


@lru_cache(maxsize=16)
def scene_of(seed: int, style: Style, camera: int) -> Scene:
    """The place that a camera watches; the first cameras watch places of different kinds."""
    rng = stream("scene", seed, style, camera)
    kind = KINDS[(camera + (3 if style == "winter" else 0)) % len(KINDS)]
    base = int(rng.integers(185, 245))
    picture = Image.new("RGB", (SCENE_WIDTH, SCENE_HEIGHT))
    scale = (base - _HORIZON) / _LENS_HEIGHT
    draw_backdrop(kind, Backdrop(ImageDraw.Draw(picture), rng, base, scale, SCENE_WIDTH, style == "winter"))
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.0))).astype(np.float32)
    sun = float(rng.uniform(0.15, 0.3) if kind == "hall" or style == "winter" else rng.uniform(0.25, 0.6))
    pixels[base:] = _ground(rng, kind, pixels[:base], sun, snowy=style == "winter" and kind != "hall")
    pixels = _faded(pixels, *_FADING[style])
    pixels *= 1 + 0.04 * rng.standard_normal((SCENE_HEIGHT, SCENE_WIDTH, 1), dtype=np.float32)
    azimuth = rng.uniform(-1.2, 1.2)
    light = np.array([np.sin(azimuth), 1.0, 0.8 * np.cos(azimuth)], dtype=np.float32)
    return Scene(
        picture=Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)),
        base=base,
        light=light / np.linalg.norm(light),
        sun=sun,
    )


def _faded(pixels: Array, contrast: float, saturation: float) -> Array:
    """Flatter and paler colours: a place is weathered and out of focus, clothes are not."""
    grey = pixels.mean(axis=2, keepdims=True)
    faded: Array = _MIDDLE + contrast * (grey + saturation * (pixels - grey) - _MIDDLE)
    return faded


def _ground(rng: np.random.Generator, kind: str, backdrop: Array, sun: float, *, snowy: bool) -> Array:
    """Colours (rows, width, 3) below a backdrop of a given height."""
    base = len(backdrop)
    rows = np.arange(base, SCENE_HEIGHT, dtype=np.float32)[:, None]
    scale = (rows - _HORIZON) / _LENS_HEIGHT
    x = ((np.arange(SCENE_WIDTH, dtype=np.float32) - SCENE_WIDTH / 2) / scale).astype(np.float32)
    z = np.broadcast_to(_FOCAL / scale, x.shape).astype(np.float32)
    level: Array = 0.88 + 0.24 * _noise(rng, x / 0.7, z / 0.7) + 0.12 * (_noise(rng, x * 15, z * 15) - 0.5)
    if kind in _SLABS:
        level *= _slabs(rng, x, z, *_SLABS[kind])
    tint = np.exp(rng.normal(0, 0.03, 3)) * np.exp(rng.normal(0, 0.08))
    color: Array = level[..., None] * (np.array(_GROUNDS[kind]) * tint).astype(np.float32)
    _markings(rng, kind, color, level, x, z)
    if snowy:
        depth = np.clip((_noise(rng, x / 1.3, z / 1.3) + 0.4 * _noise(rng, x / 0.3, z / 0.3) - 0.75) * 6, 0, 0.92)
        color *= 0.8
        color += (np.array([222, 226, 234], dtype=np.float32) * (0.9 + 0.1 * level[..., None]) - color) * depth[
            ..., None
        ]
    if kind == "hall" or snowy:
        _reflect(color, backdrop, 0.22 if kind == "hall" else 0.12)
    elif sun > 0.3:
        shade = np.clip((_noise(rng, x / 2.2, z / 2.2) - 0.58) * 8, 0, 1)
        color *= 1 - 0.38 * shade[..., None]
    return color


def _slabs(rng: np.random.Generator, x: Array, z: Array, width: float, depth: float) -> Array:
    """Slabs of different tones with dark joints."""
    tones = rng.uniform(0.92, 1.08, 4096).astype(np.float32)
    row = np.floor(z / depth).astype(np.int32)
    shifted = x / width + (row % 2) * (0.5 if width != depth else 0)
    column = np.floor(shifted).astype(np.int32)
    joint = (shifted - column < 0.014 / width) | (z / depth - row < 0.022 / depth)
    level: Array = tones[(column * 73 + row * 179) % 4096] * np.where(joint, np.float32(0.74), np.float32(1))
    return level


def _markings(rng: np.random.Generator, kind: str, color: Array, level: Array, x: Array, z: Array) -> None:
    """Paths, lines and covers on the ground, drawn in place."""
    if kind == "park":
        path = np.abs(x - 1.6 * np.sin(z / 2) - rng.uniform(-2, 2)) < 1.7
        color[path] = np.array([178, 160, 130], dtype=np.float32) * level[path][:, None]
    elif kind == "road":
        left = rng.uniform(-3, 1)
        zebra = (np.abs(x - left) < 1.5) & ((z / 0.5) % 2 < 1)
        line = (np.abs(z - rng.uniform(6.2, 8)) < 0.07) & ((x / 1.5) % 2 < 1.2)
        color[zebra | line] = np.array([212, 212, 206], dtype=np.float32) * level[zebra | line][:, None]
    elif kind == "pavement":
        street = z > rng.uniform(8.2, 9)
        color[street] = np.array([94, 95, 98], dtype=np.float32) * level[street][:, None]
    elif kind == "shops":
        strip = np.abs(x - rng.uniform(-2, 2)) < 0.3
        color[strip] = np.array([186, 160, 84], dtype=np.float32) * level[strip][:, None]
    if kind != "park" and kind != "hall":
        for place in rng.uniform([-5, 5], [5, 9], (3, 2)):
            cover = (x - place[0]) ** 2 + (z - place[1]) ** 2 < 0.09
            color[cover] *= 0.7


def _reflect(color: Array, backdrop: Array, share: float) -> None:
    """A polished or wet ground mirrors the backdrop."""
    rows = np.minimum(np.arange(len(color)), len(backdrop) - 1)
    mirrored = backdrop[::-1][rows]
    fade = np.linspace(share, share / 3, len(color), dtype=np.float32)[:, None, None]
    color += (mirrored - color) * fade


def _noise(rng: np.random.Generator, x: Array, z: Array) -> Array:
    """Smooth noise in the ground's coordinates, 0 to 1."""
    grid = rng.random((64, 64), dtype=np.float32)
    grid[63], grid[:, 63] = grid[0], grid[:, 0]
    column, row = np.floor(x), np.floor(z)
    u, v = x - column, z - row
    i, j = column.astype(np.int32) % 63, row.astype(np.int32) % 63
    place: NDArray[np.int32] = j * 64 + i
    flat = grid.reshape(-1)
    upper = flat[place] + (flat[place + 1] - flat[place]) * u
    lower = flat[place + 64] + (flat[place + 65] - flat[place + 64]) * u
    return upper + (lower - upper) * v
