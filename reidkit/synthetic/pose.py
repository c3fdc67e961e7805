"""Walking and standing bodies: joint positions from a few angles.

Body space: x to the person's left, y up, z to the front, metres, the ground at y = 0 below the pelvis.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reidkit.synthetic.raster import Array

__all__ = ["ArmMode", "Pose", "Proportions", "Skeleton", "articulate", "sample_pose"]

ArmMode = Literal["swing", "phone", "pocket", "carry"]


@dataclass(frozen=True)
class Proportions:
    """The lengths of a body.

    Attributes:
        height: Standing height in metres.
        girth: Factor on all thicknesses, about 0.85 to 1.25.
        shoulders: Half the distance between the shoulder joints as a share of the height.
        hips: Half the width of the hips as a share of the height.
    """

    height: float
    girth: float
    shoulders: float
    hips: float


@dataclass(frozen=True)
class Pose:
    """One moment of a gait, angles in radians.

    Attributes:
        phase: Place in the walking cycle, 0 to 2 pi.
        stride: Largest forward swing of a thigh; 0 stands.
        lean: Forward lean of the trunk.
        nod: Forward tilt of the head.
        turn: Turn of the head to the person's left.
        arms: Position of the left and of the right arm.
    """

    phase: float
    stride: float
    lean: float
    nod: float
    turn: float
    arms: tuple[ArmMode, ArmMode]


@dataclass(frozen=True)
class Skeleton:
    """Joint positions in body space; pairs are (left, right), shape (2, 3), the others (3,)."""

    head: Array
    neck: Array
    pelvis: Array
    shoulders: Array
    elbows: Array
    wrists: Array
    hips: Array
    knees: Array
    ankles: Array
    toes: Array


def sample_pose(rng: np.random.Generator, gait: float, carried: Literal["left", "right", "none"]) -> Pose:
    """A pose at a random moment, for a habitual stride in radians; the hand that carries a bag hangs still."""
    standing = rng.random() < 0.15
    stride = rng.uniform(0.0, 0.08) if standing else gait * rng.uniform(0.75, 1.15)
    modes: list[ArmMode] = ["swing", "swing"]
    whim = rng.random()
    if whim < 0.10:
        modes[int(rng.integers(2))] = "phone"
    elif whim < 0.22:
        modes = ["pocket", "pocket"]
    if carried != "none":
        modes[0 if carried == "left" else 1] = "carry"
    return Pose(
        phase=rng.uniform(0, 2 * np.pi),
        stride=stride,
        lean=rng.normal(0.06, 0.03),
        nod=rng.normal(0.12, 0.10),
        turn=rng.normal(0.0, 0.25),
        arms=(modes[0], modes[1]),
    )


def articulate(body: Proportions, pose: Pose) -> Skeleton:
    """The skeleton of a body in a pose, its lower foot on the ground."""
    h = body.height
    sides = np.array([1.0, -1.0])
    phases = pose.phase + np.array([0.0, np.pi])
    swing = pose.stride * np.sin(phases)
    bend = 0.06 + 1.65 * pose.stride * np.maximum(np.cos(phases), 0) ** 1.5

    hips = np.stack([sides * (body.hips * 0.50 * h), np.zeros(2), np.zeros(2)], axis=1)
    knees = hips + 0.245 * h * _forward(swing)
    ankles = knees + 0.235 * h * _forward(swing - bend)
    dip = np.maximum(-swing, 0) * 0.9 + 0.35 * bend
    toes = ankles + 0.105 * h * np.stack([sides * 0.16, -np.sin(dip) - 0.18, np.cos(dip)], axis=1)
    rise = -min(float(ankles[:, 1].min()) - 0.038 * h, float(toes[:, 1].min()) - 0.012 * h)
    pelvis = np.array([0.0, rise, 0.0])

    up = np.array([0.0, np.cos(pose.lean), np.sin(pose.lean)])
    neck = pelvis + 0.305 * h * up
    twist = 0.35 * pose.stride * np.sin(pose.phase)
    across = np.array([np.cos(twist), 0.0, np.sin(twist) * -1.0])
    shoulders = neck - 0.045 * h * up + sides[:, None] * (body.shoulders * h) * across
    arms = [_arm(body, mode, side, s) for mode, side, s in zip(pose.arms, sides, -swing, strict=True)]
    elbows = shoulders + np.stack([upper for upper, _ in arms])
    wrists = elbows + np.stack([lower for _, lower in arms])
    head = neck + h * np.array([0.0, 0.099, 0.016 + 0.06 * np.sin(pose.nod)])
    joints = [head, neck, pelvis, shoulders, elbows, wrists]
    legs = [joint + pelvis for joint in (hips, knees, ankles, toes)]
    return Skeleton(*(joint.astype(np.float32) for joint in [*joints, *legs]))


def _forward(angle: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) hanging down and swung forward by angles (n,)."""
    return np.stack([np.zeros_like(angle), -np.cos(angle), np.sin(angle)], axis=1)


def _arm(body: Proportions, mode: ArmMode, side: float, swing: float) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the upper arm and the forearm."""
    spread = 0.10 + 0.08 * (body.girth - 1)
    if mode == "swing":
        angle, bend = 0.85 * swing + 0.02, 0.22 + 0.5 * max(swing, 0.0)
    elif mode == "phone":
        angle, bend = 0.35, 1.75
    elif mode == "pocket":
        angle, bend, spread = -0.25, 0.75, 0.30
    else:
        angle, bend = 0.15 * swing, 0.12
    upper = np.array([side * np.sin(spread), -np.cos(angle), np.sin(angle)])
    inward = -0.25 if mode in ("phone", "pocket") else 0.02
    lower = np.array([side * inward, -np.cos(angle + bend), np.sin(angle + bend)])
    upper, lower = (v / np.linalg.norm(v) for v in (upper, lower))
    return 0.170 * body.height * upper, 0.145 * body.height * lower
