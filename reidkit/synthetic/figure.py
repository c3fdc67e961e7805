"""Draws a dressed person in a pose onto a canvas: trunk, limbs, and through them head and bag."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit.synthetic.bags import draw_bag
from reidkit.synthetic.fabric import leg_paint, sleeve_paint, upper_paint
from reidkit.synthetic.head import draw_head
from reidkit.synthetic.pose import Pose, Skeleton, articulate
from reidkit.synthetic.raster import Array, Canvas, TubePaint, View, seen_sizes
from reidkit.synthetic.wardrobe import Person

__all__ = ["draw_person"]

# Half sizes of the trunk at equal steps from the neck to the crotch, shares of the height.
_TRUNK_WIDTH = (0.036, 0.109, 0.116, 0.106, 0.094, 0.087, 0.092, 0.100, 0.099)
_TRUNK_DEPTH = (0.032, 0.050, 0.062, 0.067, 0.064, 0.059, 0.062, 0.069, 0.066)
_TRUNK_LENGTH = 0.355
_WAIST = 0.60
_CROTCH, _KNEE, _ANKLE = 0.045, 0.245, 0.48
_THIGH = (0.052, 0.049, 0.038)
_CALF = (0.038, 0.040, 0.031, 0.022)
_FOLDS = 0.10


def draw_person(canvas: Canvas, view: View, person: Person, pose: Pose) -> None:
    """Draw a person at the view's ground point; nearer surfaces on the canvas hide the person."""
    skeleton = articulate(person.body, pose)
    figure = _Figure(canvas, view, person, skeleton)
    figure.legs()
    figure.lower()
    figure.upper()
    figure.neck()
    figure.arms()
    draw_head(canvas, view, person, skeleton, pose)
    draw_bag(canvas, view, person, skeleton)


@dataclass(frozen=True)
class _Figure:
    """The parts of one person; lengths are shares of the height unless they are joints."""

    canvas: Canvas
    view: View
    person: Person
    skeleton: Skeleton

    @property
    def height(self) -> float:
        return self.person.body.height

    def limb(
        self,
        a: Array,
        b: Array,
        radii: Sequence[float],
        paint: TubePaint,
        folds: float = 0.0,
        caps: tuple[float, float] = (0.9, 0.9),
    ) -> None:
        """A round tube between two points of body space, radii in metres."""
        ends = self.view.place(np.stack([a, b]))
        self.canvas.tube(ends, radii, radii, paint, yaw=self.view.yaw, caps=caps, folds=folds)

    def spine(self, place: float) -> Array:
        """A point of the spine, 0 at the neck and 1 at the crotch, beyond 1 straight below it."""
        neck, pelvis = self.skeleton.neck, self.skeleton.pelvis
        neck = neck + np.array([0, 0.010 * self.height, 0], dtype=np.float32)
        crotch = pelvis - np.array([0, _CROTCH * self.height, 0], dtype=np.float32)
        return neck + (crotch - neck) * np.float32(place)

    def trunk_sizes(self, places: NDArray[np.float64], slack: float) -> tuple[list[float], list[float]]:
        """Half widths and depths of the trunk, metres, at places between 0 (neck) and 1 (crotch)."""
        body = self.person.body
        knots = np.linspace(0, 1, len(_TRUNK_WIDTH))
        shape = np.interp(knots, [0, 0.3, 0.65, 1], [body.shoulders / 0.108] * 2 + [1.0, body.hips / 0.099])
        widths = np.array(_TRUNK_WIDTH) * shape * (body.girth * self.height)
        depths = np.array(_TRUNK_DEPTH) * body.girth**1.3 * self.height
        slacks = slack * np.minimum(places / 0.2, 1)
        across, along = (np.interp(places, knots, sizes) + slacks for sizes in (widths, depths))
        return across.tolist(), along.tolist()

    def upper(self) -> None:
        person = self.person
        garment = person.upper
        end = min(_WAIST + (1 - _WAIST) * garment.hem, 1.0)
        length = _TRUNK_LENGTH * self.height
        slack = garment.thickness + (person.lower.looseness if garment.kind != "dress" else 0)
        paint = upper_paint(garment, person.bag, person.skin, length=length * end)
        self.loft(0.0, end, slack, paint)
        if garment.hem > 1:
            fall = (self.drop(garment.hem) + _TRUNK_LENGTH * (1 - _WAIST) - _CROTCH) * self.height
            paint = upper_paint(garment, person.bag, person.skin, length=fall, start=_WAIST * length)
            self.skirt(_WAIST, garment.hem, slack + 0.008, paint)
        if garment.kind == "hoodie":
            hood = self.skeleton.neck + np.array([0, -0.004, -0.046], dtype=np.float32) * np.float32(self.height)
            axes = self.view.rotation * np.array([0.058, 0.036, 0.032], dtype=np.float32) * np.float32(self.height)
            self.canvas.ellipsoid(self.view.place(hood), axes, garment.color, folds=_FOLDS)

    def lower(self) -> None:
        person = self.person
        garment = person.lower
        if person.upper.kind == "dress":
            return
        start = _WAIST + (1 - _WAIST) * person.upper.hem - 0.05
        if start < 1:
            self.loft(start, 1.0, garment.looseness, garment.color)
        if garment.kind == "skirt":
            self.skirt(max(start, _WAIST), garment.hem, garment.looseness + 0.004, garment.color)

    def loft(self, start: float, end: float, slack: float, paint: TubePaint) -> None:
        """A garment that follows the trunk."""
        across, along = seen_sizes(*self.trunk_sizes(np.linspace(start, end, 9), slack), self.view.yaw)
        ends = self.view.place(np.stack([self.spine(start), self.spine(end)]))
        self.canvas.tube(ends, across, along, paint, yaw=self.view.yaw, caps=(0.12, 0.12), folds=_FOLDS)

    @staticmethod
    def drop(hem: float) -> float:
        """Distance of a hem below the hip joints."""
        return float(np.interp(hem, [1, 2, 3], [_CROTCH, _KNEE, _ANKLE]))

    def skirt(self, start: float, hem: float, slack: float, paint: TubePaint) -> None:
        """A garment that hangs round both legs, as wide as their spread needs; from `start` of the trunk to a hem."""
        h, pelvis, knees = np.float32(self.height), self.skeleton.pelvis, self.skeleton.knees
        drop = np.float32(self.drop(hem))
        rise = (1 - start) * _TRUNK_LENGTH - _CROTCH
        middle = (knees.mean(axis=0) - pelvis) * np.array([1, 0, min(float(drop) / _KNEE, 1.2)], dtype=np.float32)
        ends = self.view.place(np.stack([self.spine(start), pelvis + middle - np.array([0, drop * h, 0], np.float32)]))
        below = np.linspace(-rise, drop, 7)
        share = np.clip(below / _KNEE, 0, 1.25)
        legs = np.interp(below, [0, _KNEE], [_THIGH[0], _THIGH[2]]) * h * self.person.body.girth + slack
        hips, spread = (
            np.abs(self.view.place(pair) - self.view.place(pair.mean(axis=0))).max(axis=0)
            for pair in (self.skeleton.hips, knees)
        )
        legs = legs[:, None] + hips * np.maximum(1 - share, 0)[:, None] + spread * share[:, None]
        legs[below < 0] = 0
        places = np.clip(start + (below + rise) / _TRUNK_LENGTH, 0, 1)
        across, along = seen_sizes(*self.trunk_sizes(places, slack), self.view.yaw)
        flare = 1 + 0.22 * np.clip(below / 0.2, 0, 1.2)
        widths = np.maximum(np.array(across) * flare, 1.05 * legs[:, 0])
        depths = np.maximum(np.array(along) * flare, 1.6 * legs[:, 2])
        across, along = widths.tolist(), depths.tolist()
        self.canvas.tube(ends, across, along, paint, yaw=self.view.yaw, caps=(0.1, 0.1), boxy=True, folds=_FOLDS)

    def neck(self) -> None:
        person, h = self.person, np.float32(self.height)
        neck = self.skeleton.neck
        ends = neck + np.array([[0, 0.07, 0.02], [0, -0.03, 0]], dtype=np.float32) * h
        self.limb(ends[0], ends[1], [0.030 * self.height * person.body.girth**0.5] * 2, person.skin)
        if person.scarf is not None:
            ends = neck + np.array([[0, 0.040, 0.012], [0, -0.012, 0.002]], dtype=np.float32) * h
            self.limb(ends[0], ends[1], [0.044 * self.height, 0.056 * self.height], person.scarf, 1.5 * _FOLDS)

    def legs(self) -> None:
        person, joints = self.person, self.skeleton
        garment = person.lower
        covered = 0.0 if person.upper.kind == "dress" or garment.kind == "skirt" else garment.hem
        thick = self.height * person.body.girth
        slack = garment.looseness if covered else 0.0
        thigh = [r * thick + slack for r in _THIGH]
        calf = [r * thick for r in _CALF]
        if covered > 2.4 and garment.kind != "leggings":
            calf = [r * thick + slack for r in (*_CALF[:2], 0.036, 0.034)]
        for i, side in enumerate((1.0, -1.0)):
            paints = [leg_paint(garment, person, covered, start=start, side=side) for start in (1, 2)]
            self.limb(joints.hips[i], joints.knees[i], thigh, paints[0], _FOLDS * (covered > 1.9), (0.3, 0.9))
            self.limb(joints.knees[i], joints.ankles[i], calf, paints[1], _FOLDS * (covered > 2.4), (0.2, 0.2))
            self.shoe(joints.ankles[i], joints.toes[i])

    def shoe(self, ankle: Array, toe: Array) -> None:
        h, shoes = self.height, self.person.shoes
        heel = ankle + (ankle - toe) * np.float32(0.28) - np.array([0, 0.012 * h, 0], dtype=np.float32)
        self.limb(heel, toe, [0.023 * h, 0.027 * h, 0.023 * h], shoes)
        self.limb(ankle, heel + (toe - heel) * np.float32(0.3), [0.024 * h] * 2, shoes)
        sunk = np.array([0, 0.013 * h, 0], dtype=np.float32)
        self.limb(heel - sunk, toe - sunk, [0.019 * h, 0.022 * h, 0.018 * h], self.person.sole)

    def arms(self) -> None:
        person, joints = self.person, self.skeleton
        thick = self.height * person.body.girth**0.8
        extra = person.upper.thickness * 0.7
        cuff = extra if person.upper.long_sleeves else 0.0
        upper = sleeve_paint(person.upper, person.skin, upper_arm=True)
        lower = sleeve_paint(person.upper, person.skin, upper_arm=False)
        for i in range(2):
            shoulder, elbow, wrist = joints.shoulders[i], joints.elbows[i], joints.wrists[i]
            radii = [0.030 * thick + extra, 0.030 * thick + extra, 0.023 * thick + cuff]
            self.limb(shoulder, elbow, radii, upper, _FOLDS)
            radii = [0.023 * thick + cuff, 0.023 * thick + cuff, 0.016 * thick + cuff]
            self.limb(elbow, wrist, radii, lower, _FOLDS if cuff else 0.0, (0.2, 0.9))
            reach = (wrist - elbow) / np.linalg.norm(wrist - elbow) * np.float32(self.height)
            hand = [0.015 * self.height, 0.020 * self.height, 0.013 * self.height]
            self.limb(wrist + reach * np.float32(0.01), wrist + reach * np.float32(0.06), hand, person.skin)
