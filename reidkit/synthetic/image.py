"""One image: a person, a place, a moment and a camera."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.synthetic.camera import camera_of, develop, encode_jpeg
from reidkit.synthetic.config import Style
from reidkit.synthetic.figure import draw_person
from reidkit.synthetic.pose import sample_pose
from reidkit.synthetic.props import draw_occluder
from reidkit.synthetic.randomness import stream
from reidkit.synthetic.raster import Array, Canvas, View, box_blur
from reidkit.synthetic.scene import SCENE_HEIGHT, SCENE_WIDTH, Scene, scene_of
from reidkit.synthetic.wardrobe import Person, person_of

__all__ = ["render_distractor", "render_sighting"]

_STRANGERS = 100_000
_SAMPLES = 2
_OCCLUDED = 0.06
_ACCOMPANIED = 0.08
_LINEAR = (np.arange(256) / 255.0).astype(np.float32) ** np.float32(2.2)


@dataclass(frozen=True)
class _Place:
    """The place, style and image size that all parts of an image share."""

    seed: int
    style: Style
    camera: int
    height: int
    width: int

    @property
    def scene(self) -> Scene:
        return scene_of(self.seed, self.style, self.camera)


@dataclass(frozen=True)
class _Frame:
    """The detector's box: place of the feet in the scene and in the crop, and pixels per metre."""

    column: float
    row: float
    x: float
    y: float
    scale: float


def render_sighting(seed: int, style: Style, identity: int, camera: int, index: int, size: tuple[int, int]) -> bytes:
    """The JPEG of an image of an identity (>= 1) in a camera (>= 0); it depends on the arguments alone.

    `index` >= 0 numbers the identity's images in this camera; `size` is height and width in pixels.
    """
    place = _Place(seed, style, camera, *size)
    track = stream("track", seed, style, identity, camera)
    rng = stream("image", seed, style, identity, camera, index)
    person = person_of(seed, style, identity)
    heading = float(track.choice([0.0, 0.5, 1.0, 1.5]) * np.pi + track.normal(0, 0.45))
    frame = _frame(place, person, rng)
    mood = _mood(track) * _mood(rng, 0.3)
    return _render(place, person, frame, heading, mood, rng)


def render_distractor(seed: int, style: Style, number: int, cameras: int, size: tuple[int, int]) -> tuple[int, bytes]:
    """Camera number and JPEG of a gallery image that is nobody's match: a stranger, a part of one, or nobody.

    The `number` of the distractor is >= 0; its camera is drawn from `cameras`; `size` is height and width in pixels.
    """
    rng = stream("distractor", seed, style, number)
    place = _Place(seed, style, int(rng.integers(cameras)), *size)
    person = person_of(seed, style, _STRANGERS + number)
    kind: Literal["whole", "part", "nobody"] = rng.choice(["whole", "part", "nobody"], p=[0.5, 0.3, 0.2])
    frame = _frame(place, person, rng)
    if kind == "part":
        frame = _misplaced(frame, place, rng)
    heading = float(rng.uniform(-np.pi, np.pi))
    return place.camera, _render(place, person if kind != "nobody" else None, frame, heading, _mood(rng), rng)


def _frame(place: _Place, person: Person, rng: np.random.Generator) -> _Frame:
    """A detector's box round a person: roughly right, sometimes cutting the feet or the head."""
    margin = 1.04 if place.style == "summer" else 1.10
    scale = place.height / (person.body.height * margin) * np.exp(rng.normal(0, 0.04))
    y = 0.5 + 0.46 * scale * person.body.height * margin / place.height + rng.normal(0, 0.018)
    slip = rng.random()
    if slip < 0.02:
        y += rng.uniform(0.08, 0.20)
    elif slip < 0.04:
        y -= rng.uniform(0.06, 0.12)
    return _Frame(
        column=float(rng.uniform(60, SCENE_WIDTH - 60)),
        row=float(rng.uniform(place.scene.base + 20, SCENE_HEIGHT - 20)),
        x=place.width * (0.5 + float(rng.normal(0, 0.035))),
        y=place.height * float(y),
        scale=float(scale),
    )


def _misplaced(frame: _Frame, place: _Place, rng: np.random.Generator) -> _Frame:
    """A box that holds only a part of a figure."""
    side = float(rng.choice([-1, 1]))
    x = frame.x + side * place.width * float(rng.uniform(0.25, 0.5))
    y = frame.y + place.height * float(rng.uniform(-0.45, 0.5))
    return _Frame(frame.column, frame.row, x, y, frame.scale * float(rng.uniform(0.9, 1.6)))


def _mood(rng: np.random.Generator, strength: float = 1.0) -> Array:
    """Slow changes of light: brightness and tint, (3,)."""
    drift = rng.normal(0, 0.2 * strength) + rng.normal(0, 0.08 * strength, 3)
    return np.exp(drift).astype(np.float32)


def _render(
    place: _Place, person: Person | None, frame: _Frame, heading: float, mood: Array, rng: np.random.Generator
) -> bytes:
    """Draw everything and take the picture."""
    s, scene = _SAMPLES, place.scene
    pitch = scene.pitch(frame.row)
    canvas = Canvas(place.height * s, place.width * s, frame.scale * s, (frame.x * s, frame.y * s))
    light = _background(place, frame)
    if person is not None:
        _draw(canvas, View(heading + float(rng.normal(0, 0.15)), pitch), person, rng)
        light *= 1 - _shadow(_reduced(canvas.mask), frame, scene, pitch)[..., None]
    if rng.random() < _ACCOMPANIED:
        _draw_passer_by(canvas, place, pitch, rng)
    if rng.random() < _OCCLUDED:
        draw_occluder(canvas, pitch, rng)
    creases = Image.fromarray(rng.standard_normal((20, 20), dtype=np.float32))
    folds = np.asarray(creases.resize((canvas.width, canvas.height), Image.Resampling.BICUBIC))
    alpha = _reduced(canvas.mask)[..., None]
    light = light * (1 - alpha) + _reduced(canvas.shade(scene.light, scene.sun, folds))
    camera = camera_of(place.seed, place.style, place.camera)
    return encode_jpeg(develop(light * mood, camera, rng), camera)


def _draw(canvas: Canvas, view: View, person: Person, rng: np.random.Generator) -> None:
    carried = person.bag.side if person.bag.kind == "handbag" else "none"
    draw_person(canvas, view, person, sample_pose(rng, person.gait, carried))


def _draw_passer_by(canvas: Canvas, place: _Place, pitch: float, rng: np.random.Generator) -> None:
    """Somebody else, partly inside the box, before or behind."""
    side = float(rng.choice([-1, 1]))
    depth = float(rng.uniform(-2.0, 0.7))
    offset = np.array([side * rng.uniform(0.38, 0.75), 0, depth], dtype=np.float32)
    x, y, z = View(0.0, pitch).place(offset).tolist()
    stranger = person_of(place.seed, place.style, int(rng.integers(_STRANGERS, 2 * _STRANGERS)))
    _draw(canvas, View(float(rng.uniform(-np.pi, np.pi)), pitch, (x, y, z)), stranger, rng)


def _background(place: _Place, frame: _Frame) -> Array:
    """The part of the scene inside the box, linear RGB (H, W, 3)."""
    zoom = place.scene.scale(frame.row) / frame.scale
    width, height = min(place.width * zoom, SCENE_WIDTH), min(place.height * zoom, SCENE_HEIGHT)
    left = min(max(frame.column - frame.x * zoom, 0.0), SCENE_WIDTH - width)
    top = min(max(frame.row - frame.y * zoom, 0.0), SCENE_HEIGHT - height)
    box = (left, top, left + width, top + height)
    crop = place.scene.picture.resize((place.width, place.height), Image.Resampling.BILINEAR, box)
    light: Array = _LINEAR[np.asarray(crop)]
    return light


def _shadow(figure: Array, frame: _Frame, scene: Scene, pitch: float) -> Array:
    """How much light a figure (H, W) takes from the ground, 0 to 1: its cast shadow and the dark below its feet."""
    height, width = figure.shape
    x, y, z = scene.light.tolist()
    flatten = max(z / y * float(np.sin(pitch)), 0.05)
    slope = x / y / flatten
    affine = (1, -slope, slope * frame.y, 0, 1 / flatten, frame.y * (1 - 1 / flatten))
    cast = Image.fromarray(figure).transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    rows = (np.arange(height, dtype=np.float32)[:, None] - frame.y) / (0.09 * frame.scale)
    columns = (np.arange(width, dtype=np.float32) - frame.x) / (0.24 * frame.scale)
    contact = np.exp(-(rows**2) - columns**2) * np.float32(0.45)
    soft = box_blur(np.asarray(cast), max(2, height // 60)) * np.float32(1.1 * scene.sun)
    darkness: Array = np.maximum(soft, contact)
    return darkness


def _reduced(samples: Array | NDArray[np.bool_]) -> Array:
    """Means of blocks of `_SAMPLES` x `_SAMPLES` pixels."""
    s = _SAMPLES
    parts = [samples[i::s, j::s] for i in range(s) for j in range(s)]
    total: Array = np.add.reduce(parts, axis=0, dtype=np.float32)
    return total / np.float32(s * s)
