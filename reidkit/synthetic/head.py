"""Heads: face, hair and hats."""

import numpy as np

from reidkit.synthetic.pose import Pose, Skeleton
from reidkit.synthetic.raster import Array, Canvas, Color, SpherePaint, View, seen_sizes
from reidkit.synthetic.wardrobe import Hair, Person

__all__ = ["draw_head"]

_HALF_AXES = (0.045, 0.068, 0.056)
_STRANDS = 0.15


def draw_head(canvas: Canvas, view: View, person: Person, skeleton: Skeleton, pose: Pose) -> None:
    """Draw a person's head with hair and hat, turned as the pose says."""
    h = person.body.height
    turned = View(view.yaw + pose.turn, view.pitch + pose.nod)
    rotation = turned.rotation
    center = view.place(skeleton.head)
    head = _Head(canvas, center, rotation, h)
    hair = person.hair
    head.ball((0, 0, 0), _HALF_AXES, _face(person.skin, hair))
    head.ball((0, -0.012, 0.056), (0.009, 0.016, 0.012), person.skin)
    if hair.cut not in ("bob", "long"):
        for side in (1, -1):
            head.ball((side * 0.045, -0.004, -0.006), (0.007, 0.016, 0.011), _darker(person.skin, 0.85))
    if hair.cut != "bald":
        head.hair(hair)
    if hair.hat != "none":
        head.hat(hair)
    _tail(canvas, view, person, skeleton)


class _Head:
    """Places parts in the frame of the head; lengths are shares of the person's height."""

    def __init__(self, canvas: Canvas, center: Array, rotation: Array, height: float) -> None:
        self.canvas, self.center, self.rotation, self.height = canvas, center, rotation, height

    def ball(
        self,
        place: tuple[float, float, float],
        half_axes: tuple[float, float, float],
        paint: SpherePaint,
        folds: float = 0.0,
    ) -> None:
        center = self.center + self.rotation @ np.array(place, dtype=np.float32) * np.float32(self.height)
        axes = self.rotation * (np.array(half_axes, dtype=np.float32) * np.float32(self.height))
        self.canvas.ellipsoid(center, axes, paint, folds=folds)

    def hair(self, hair: Hair) -> None:
        paint = hair.color
        a, b, c = _HALF_AXES
        if hair.cut == "short":
            self.ball((0, 0.017, -0.013), (a * 1.06, b * 0.87, c * 0.95), paint, _STRANDS)
        else:
            self.ball((0, 0.015, -0.012), (a * 1.13, b * 0.94, c * 1.0), paint, _STRANDS)
        if hair.cut in ("bob", "long"):
            self.ball((0, -0.018, -0.022), (a * 1.22, b * 0.95, c * 0.82), paint, _STRANDS)
        if hair.cut == "bun":
            self.ball((0, 0.05, -0.055), (0.024, 0.024, 0.024), paint, _STRANDS)

    def hat(self, hair: Hair) -> None:
        paint = hair.hat_color
        a, b, c = _HALF_AXES
        if hair.hat == "beanie":
            self.ball((0, 0.026, -0.010), (a * 1.18, b * 0.88, c * 1.10), paint, _STRANDS)
        elif hair.hat == "cap":
            self.ball((0, 0.027, -0.009), (a * 1.17, b * 0.80, c * 1.10), paint)
            self.ball((0, 0.030, 0.055), (a * 0.85, 0.006, 0.042), _darker(hair.hat_color, 0.8))
        else:
            self.ball((0, 0.032, -0.010), (a * 1.19, b * 0.82, c * 1.14), paint)
            self.ball((0, 0.030, 0), (a * 1.9, 0.008, c * 1.7), _darker(hair.hat_color, 0.85))


def _tail(canvas: Canvas, view: View, person: Person, skeleton: Skeleton) -> None:
    """Long hair and pony tails hang down the back."""
    h, cut = person.body.height, person.hair.cut
    if cut not in ("long", "ponytail"):
        return
    if cut == "long":
        path = [[0, 0.01, -0.030], [0, -0.155, -0.052]]
        wide, deep = [0.052 * h, 0.060 * h, 0.056 * h, 0.036 * h], [0.03 * h, 0.03 * h, 0.026 * h, 0.018 * h]
    else:
        path = [[0, 0.035, -0.060], [0, -0.105, -0.088]]
        wide, deep = [0.018 * h, 0.024 * h, 0.020 * h, 0.010 * h], [0.018 * h, 0.024 * h, 0.020 * h, 0.010 * h]
    ends = view.place(skeleton.head + np.array(path, dtype=np.float32) * np.float32(h))
    across, along = seen_sizes(wide, deep, view.yaw)
    canvas.tube(ends, across, along, person.hair.color, yaw=view.yaw, caps=(0.7, 0.7), folds=_STRANDS)


def _darker(color: Color, factor: float) -> Color:
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def _face(skin: Color, hair: Hair) -> SpherePaint:
    """Skin, eyes, brows, mouth, beard and the hair's roots, on the unit sphere (x left, y up, z front)."""

    def paint(points: Array) -> Array:
        x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
        color = np.repeat(np.array([skin], dtype=np.float32), len(points), axis=0)
        front = z > 0
        if hair.beard:
            color[front & (y < -0.28) & (y < 0.25 - x)] = _mix(skin, hair.color, 0.75)
        color[front & (x < 0.26) & (np.abs(y + 0.47) < 0.05)] = _mix(skin, (0.25, 0.03, 0.03), 0.6)
        eyes = front & (((x - 0.40) / 0.17) ** 2 + ((y - 0.06) / 0.07) ** 2 < 1)
        color[eyes] = (0.03, 0.02, 0.02)
        if hair.glasses:
            rims = front & (x > 0.08) & (x < 0.78) & (np.abs(y - 0.06) < 0.15)
            color[rims] = _mix(skin, (0.01, 0.01, 0.01), 0.85)
        color[front & (np.abs(x - 0.40) < 0.2) & (np.abs(y - 0.24) < 0.045)] = _mix(skin, hair.color, 0.8)
        if hair.cut != "bald":
            color[(z < -0.12) & (y > -0.55)] = hair.color
            color[(y > 0.62) | ((x > 0.78) & (y > 0.1) & (z < 0.5))] = hair.color
        return color

    return paint


def _mix(first: Color, second: Color, share: float) -> Color:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue
