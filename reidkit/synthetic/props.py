"""Things that stand between the camera and the person and hide a part of either."""

from collections.abc import Callable

import numpy as np

from reidkit.synthetic.raster import Array, Canvas, Color, TubePaint, View

__all__ = ["draw_occluder"]

_METAL: tuple[Color, ...] = ((0.05, 0.05, 0.06), (0.22, 0.23, 0.25), (0.45, 0.05, 0.04), (0.03, 0.12, 0.08))
_CARS: tuple[Color, ...] = (
    (0.5, 0.5, 0.5),
    (0.03, 0.03, 0.035),
    (0.35, 0.03, 0.03),
    (0.03, 0.07, 0.22),
    (0.2, 0.21, 0.22),
)
_GLASS: Color = (0.03, 0.04, 0.05)
_TYRE: Color = (0.015, 0.015, 0.016)
_SIGNS: tuple[Color, ...] = ((0.5, 0.03, 0.03), (0.03, 0.12, 0.5), (0.7, 0.5, 0.05))


def draw_occluder(canvas: Canvas, pitch: float, rng: np.random.Generator) -> None:
    """Draw one thing in front of the view's origin, for a camera that looks down by `pitch` radians."""
    draw = _DRAWERS[int(rng.choice(len(_DRAWERS), p=_SHARES))]
    draw(canvas, View(0.0, pitch), rng)


def _post(canvas: Canvas, view: View, x: float, z: float, height: float, radius: float, paint: TubePaint) -> None:
    ends = view.place(np.array([[x, height, z], [x, 0, z]], dtype=np.float32))
    canvas.tube(ends, [radius], [radius], paint, caps=(0.8, 0.0))


def _block(canvas: Canvas, view: View, low: Array, high: Array, paint: TubePaint, folds: float = 0.0) -> None:
    """A rounded box between two corners."""
    middle, half = (low + high) / 2, (high - low) / 2
    ends = view.place(np.array([[middle[0], high[1], middle[2]], [middle[0], low[1], middle[2]]], dtype=np.float32))
    rounding = 0.02 / float(half[0])
    canvas.tube(ends, [half[0]], [half[2]], paint, caps=(rounding, rounding), boxy=True, folds=folds)


def _bollard(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    color = _METAL[int(rng.integers(len(_METAL)))]
    band = np.array([(0.7, 0.7, 0.68)], dtype=np.float32)
    body = np.array([color], dtype=np.float32)

    def paint(t: Array, angle: Array) -> Array:
        return np.where((np.abs(t - 0.2) < 0.07)[:, None], band, body)

    place = rng.uniform([-0.4, 0.5], [0.4, 0.9])
    _post(canvas, view, place[0], place[1], rng.uniform(0.8, 1.05), rng.uniform(0.06, 0.1), paint)


def _sign(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    x, z = rng.uniform([-0.45, 0.5], [0.45, 0.9])
    _post(canvas, view, x, z, 2.6, 0.035, _METAL[1])
    center = view.place(np.array([x, rng.uniform(1.7, 2.3), z], dtype=np.float32))
    face = np.array([_SIGNS[int(rng.integers(len(_SIGNS)))]], dtype=np.float32)
    axes = np.diag([0.24, 0.24, 0.03]).astype(np.float32)
    canvas.ellipsoid(
        center, axes, lambda points: np.where((points[:, :1] ** 2 + points[:, 1:2] ** 2) < 0.6, 0.75, face)
    )


def _hedge(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    height = float(rng.uniform(0.35, 0.8))
    for _ in range(26):
        x, y, z = rng.uniform([-1.0, 0.0, 0.6], [1.0, height, 0.95])
        radius = float(rng.uniform(0.09, 0.17))
        leaf = (np.array([0.05, 0.14, 0.03]) * np.exp(rng.normal(0, 0.25))).tolist()
        center = view.place(np.array([x, y, z], dtype=np.float32))
        axes = np.eye(3, dtype=np.float32) * np.float32(radius)
        canvas.ellipsoid(center, axes, (leaf[0], leaf[1], leaf[2]), folds=0.2)


def _car(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    body = _CARS[int(rng.integers(len(_CARS)))]
    end = float(rng.uniform(-0.25, 0.35)) * (1 if rng.random() < 0.5 else -1)
    side = 1 if rng.random() < 0.5 else -1
    xs = sorted((end, end + side * 4.2))
    low = np.array([xs[0], 0.28, 0.55], dtype=np.float32)
    _block(canvas, view, low, np.array([xs[1], 0.88, 2.2], dtype=np.float32), body)
    cabin = sorted((end + side * 0.8, end + side * 3.4))
    corners = np.array([[cabin[0], 0.85, 0.75], [cabin[1], 1.38, 2.0]], dtype=np.float32)
    _block(canvas, view, corners[0], corners[1], _GLASS)
    roof = corners + np.array([[0.1, 0.5, 0.05], [-0.1, 0.04, -0.05]], dtype=np.float32)
    _block(canvas, view, roof[0], roof[1], body)
    wheel = view.place(np.array([end + side * 0.8, 0.3, 2.15], dtype=np.float32))
    canvas.ellipsoid(wheel, np.diag([0.32, 0.32, 0.12]).astype(np.float32), _TYRE)


def _bench(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    left = float(rng.uniform(-1.6, 0.1))
    wood = (0.20, 0.11, 0.05)
    for y in (0.40, 0.60, 0.80):
        low, high = np.array([left, y, 0.6], np.float32), np.array([left + 1.6, y + 0.1, 0.66], np.float32)
        _block(canvas, view, low, high, wood)
    for x in (left + 0.15, left + 1.45):
        _post(canvas, view, x, 0.6, 0.8, 0.03, _METAL[0])


_DRAWERS: tuple[Callable[[Canvas, View, np.random.Generator], None], ...] = (_bollard, _sign, _hedge, _car, _bench)
_SHARES = (0.28, 0.18, 0.18, 0.18, 0.18)
