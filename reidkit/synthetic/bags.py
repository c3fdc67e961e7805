"""Bags: on the back, at the hip, in the hand."""

import numpy as np

from reidkit.synthetic.pose import Skeleton
from reidkit.synthetic.raster import Array, Canvas, Color, TubePaint, View
from reidkit.synthetic.wardrobe import Person

__all__ = ["draw_bag"]


def draw_bag(canvas: Canvas, view: View, person: Person, skeleton: Skeleton) -> None:
    """Draw a person's bag; straps over the trunk belong to the garment's paint."""
    h, bag = person.body.height, person.bag
    i = 0 if bag.side == "left" else 1
    side = 1.0 if bag.side == "left" else -1.0
    if bag.kind == "backpack":
        back = -(0.072 * h * person.body.girth + person.upper.thickness + 0.055 * bag.size)
        top = skeleton.neck + np.array([0, -0.035 * h, back * 0.92], dtype=np.float32)
        bottom = top + np.array([0, -0.24 * h * bag.size, back * 0.08], dtype=np.float32)
        _box(canvas, view, top, bottom, (0.125 * bag.size, 0.085 * bag.size), _pocketed(bag.color))
    elif bag.kind == "shoulder bag":
        place = np.array([side * (0.095 * h * person.body.girth + 0.05), -0.03 * h, -0.02], dtype=np.float32)
        top = skeleton.pelvis + place
        bottom = top - np.array([0, 0.12 * h * bag.size, 0], dtype=np.float32)
        _box(canvas, view, top, bottom, (0.055 * bag.size, 0.125 * bag.size), bag.color)
    elif bag.kind == "handbag":
        hand = skeleton.wrists[i] + np.array([0, -0.05 * h, 0], dtype=np.float32)
        top = hand + np.array([side * 0.02, -0.055 * h, 0], dtype=np.float32)
        bottom = top - np.array([0, 0.13 * h * bag.size, 0], dtype=np.float32)
        for lean in (0.06, -0.06):
            ends = view.place(np.stack([hand, top + np.array([0, 0, lean], dtype=np.float32)]))
            canvas.tube(ends, [0.012], [0.012], bag.color)
        _box(canvas, view, top, bottom, (0.05 * bag.size, 0.135 * bag.size), bag.color)


def _box(canvas: Canvas, view: View, top: Array, bottom: Array, half: tuple[float, float], paint: TubePaint) -> None:
    """A rounded box with half sizes sideways and forwards."""
    cos, sin = abs(np.cos(view.yaw)), abs(np.sin(view.yaw))
    across, along = half[0] * cos + half[1] * sin, half[0] * sin + half[1] * cos
    ends = view.place(np.stack([top, bottom]))
    shape = (0.82, 1.0, 1.0, 0.95)
    widths, depths = [float(across * s) for s in shape], [float(along * s) for s in shape]
    canvas.tube(ends, widths, depths, paint, yaw=view.yaw, caps=(0.25, 0.25), boxy=True, folds=0.2)


def _pocketed(color: Color) -> TubePaint:
    """A darker seam and a pocket on the side away from the wearer."""
    row = np.array([color], dtype=np.float32)

    def paint(t: Array, angle: Array) -> Array:
        rows = np.repeat(row, len(t), axis=0)
        rear = np.abs(angle) > 1.9
        rows[rear & (np.abs(t - 0.48) < 0.035)] *= 0.45
        rows[rear & (t > 0.52)] *= 0.8
        return rows

    return paint
