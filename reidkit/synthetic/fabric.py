"""Paints of garments: colours by place along the body and angle round it."""

import numpy as np
from numpy.typing import NDArray

from reidkit.synthetic.raster import Array, Color, TubePaint
from reidkit.synthetic.wardrobe import Bag, Lower, Person, Upper

__all__ = ["leg_paint", "sleeve_paint", "upper_paint"]

_STRAP = 0.15
_CHEST = 0.14
_GIRTH = 0.15


def upper_paint(upper: Upper, bag: Bag, skin: Color, *, length: float, start: float = 0.0) -> TubePaint:
    """The paint of an upper garment, with the straps of a bag and the skin within the neckline.

    `length` of the painted tube and its `start` below the neck are in metres.
    """

    def paint(t: Array, angle: Array) -> Array:
        down = start + t * np.float32(length)
        color = _patterned(upper, down, angle)
        front = np.abs(angle)
        if upper.opened:
            gap = 0.22 + 0.35 * np.minimum(down, 0.5)
            color[front < gap] = upper.inner
            color[np.abs(front - gap) < 0.07] *= 0.55
        elif upper.kind in ("jacket", "coat", "shirt"):
            color[front < 0.05] *= 0.6
        neckline = 0.035 if upper.long_sleeves else 0.055
        color[(down < neckline) & (front < 0.9 - down * 8)] = skin
        if upper.kind in ("hoodie", "jacket", "coat", "shirt"):
            color[down < 0.03] *= 0.75
        _straps(color, down, angle, bag)
        return color

    return paint


def _patterned(upper: Upper, down: Array, angle: Array) -> Array:
    main, accent = np.array(upper.color, dtype=np.float32), np.array(upper.accent, dtype=np.float32)
    share: Array = _accented(upper, down, angle).astype(np.float32)
    color: Array = main + (accent - main) * share[:, None]
    return color


def _accented(upper: Upper, down: Array, angle: Array) -> Array | NDArray[np.bool_]:
    """How much of the accent shows, 0 to 1, at places below the neck (metres) and angles from the front, (n,)."""
    arc = angle * np.float32(_GIRTH)
    if upper.pattern == "stripes":
        return _wave(down, 0.115)
    if upper.pattern == "pinstripes":
        return _wave(arc, 0.085)
    if upper.pattern == "checks":
        return (_wave(down, 0.11) + _wave(arc, 0.11)) * np.float32(0.5)
    if upper.pattern == "dots":
        row = np.floor(down / 0.07)
        x, y = (arc / 0.085 + row / 2) % 1 - 0.5, (down / 0.07) % 1 - 0.5
        spots: NDArray[np.bool_] = x * x * 1.5 + y * y < 0.09
        return spots
    if upper.pattern == "logo":
        front = np.abs(angle)
        side = np.pi - front if upper.opened else np.minimum(front, np.pi - front)
        return (side < 0.62) & (down > 0.11) & (down < 0.27)
    if upper.pattern == "two-tone":
        return down > 0.27
    return np.zeros_like(down)


def _wave(place: Array, period: float) -> Array:
    """Bands of equal width, edges softened."""
    wave: Array = np.clip(np.sin(place * np.float32(2 * np.pi / period)) * 4 + 0.5, 0, 1)
    return wave


def _straps(color: Array, down: Array, angle: Array, bag: Bag) -> None:
    if bag.kind == "backpack":
        on = (np.abs(np.abs(angle) - 0.62) < _STRAP) & (down < 0.36)
        color[on] = bag.color
    elif bag.kind == "shoulder bag":
        sign = -1.0 if bag.side == "left" else 1.0
        across = np.sin(angle) * np.float32(sign * _CHEST)
        slope = down - 0.26 + across * np.float32(1.55)
        color[(np.abs(slope) < 0.035) & (down < 0.52)] = bag.color


def sleeve_paint(upper: Upper, skin: Color, *, upper_arm: bool) -> TubePaint:
    """The paint of an upper arm or a forearm."""
    color = upper.accent if upper.pattern == "raglan" else upper.color
    if not upper.long_sleeves and not upper_arm:
        return skin
    if upper.pattern not in ("stripes", "checks") and (upper.long_sleeves or not upper_arm):
        return color

    def paint(t: Array, angle: Array) -> Array:
        down = t * np.float32(0.3) + (0.0 if upper_arm else 0.3)
        banded = upper.pattern in ("stripes", "checks")
        rows = _patterned(upper, down, angle) if banded else np.repeat(np.array([color], np.float32), len(t), axis=0)
        if not upper.long_sleeves:
            rows[t > 0.62] = skin
        return rows

    return paint


def leg_paint(lower: Lower, person: Person, covered: float, *, start: int, side: float) -> TubePaint:
    """The paint of a thigh (`start` 1) or calf (2) of the left (`side` 1) or right leg (-1).

    The garment ends at `covered` on the scale of `Lower.hem`, 0 if none is around the leg; below are skin and socks.
    """
    if covered >= start + 1 and lower.stripe is None:
        return lower.color

    def paint(t: Array, angle: Array) -> Array:
        rows = np.repeat(np.array([lower.color], np.float32), len(t), axis=0)
        if lower.stripe is not None:
            rows[np.abs(angle - side * np.pi / 2) < 0.32] = lower.stripe
        place = start + t
        if covered < start + 1:
            rows[place > covered] = person.skin
        if person.socks is not None and covered < 3:
            rows[place > 2.72] = person.socks
        return rows

    return paint
