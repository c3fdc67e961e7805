"""Colours of clothes, skin and hair, and how often each is worn."""

from collections.abc import Mapping
from typing import Literal, TypeVar

import numpy as np

from reidkit.synthetic.raster import Color

__all__ = ["Garment", "black_or_white", "contrasting", "dye", "hair_color", "skin_color", "weighted"]

Garment = Literal["upper", "coat", "lower", "shoes", "bag"]

_T = TypeVar("_T")
_Rgb = tuple[int, int, int]

_GARMENTS: tuple[Garment, ...] = ("upper", "coat", "lower", "shoes", "bag")

# 8-bit sRGB, and how often an upper garment, a coat, a lower garment, a shoe and a bag have that colour.
_DYES: dict[str, tuple[_Rgb, tuple[int, ...]]] = {
    "black": ((30, 30, 33), (9, 13, 14, 10, 9)),
    "charcoal": ((66, 67, 72), (4, 7, 7, 0, 0)),
    "grey": ((128, 129, 131), (6, 6, 7, 4, 3)),
    "silver": ((181, 182, 184), (3, 0, 3, 0, 0)),
    "white": ((232, 231, 227), (10, 4, 8, 9, 2)),
    "navy": ((34, 44, 84), (5, 8, 9, 2, 3)),
    "denim": ((72, 96, 140), (3, 4, 14, 0, 0)),
    "sky": ((134, 178, 220), (6, 2, 5, 0, 1)),
    "blue": ((38, 84, 190), (7, 6, 3, 2, 4)),
    "teal": ((24, 128, 132), (5, 5, 2, 0, 1)),
    "green": ((42, 132, 66), (6, 5, 3, 2, 3)),
    "olive": ((96, 98, 54), (4, 6, 5, 0, 0)),
    "lime": ((164, 200, 58), (3, 2, 0, 1, 0)),
    "yellow": ((236, 200, 52), (6, 4, 1, 2, 4)),
    "orange": ((232, 122, 36), (5, 4, 1, 1, 2)),
    "red": ((198, 36, 42), (8, 7, 4, 3, 5)),
    "burgundy": ((112, 28, 48), (4, 6, 3, 0, 0)),
    "pink": ((236, 140, 172), (6, 4, 3, 2, 3)),
    "magenta": ((196, 44, 134), (4, 3, 1, 0, 1)),
    "purple": ((108, 64, 156), (5, 5, 2, 0, 2)),
    "brown": ((104, 72, 50), (3, 6, 5, 5, 4)),
    "camel": ((186, 148, 100), (3, 6, 5, 2, 4)),
    "beige": ((212, 196, 166), (4, 5, 7, 0, 0)),
}
_SKINS: dict[_Rgb, float] = {
    (244, 208, 178): 4,
    (231, 187, 150): 6,
    (216, 166, 126): 6,
    (186, 132, 94): 4,
    (140, 94, 66): 3,
    (92, 62, 46): 2,
}
_HAIRS: dict[_Rgb, float] = {
    (24, 20, 19): 7,
    (46, 33, 26): 6,
    (84, 56, 36): 4,
    (124, 84, 48): 3,
    (188, 150, 92): 2.5,
    (138, 52, 30): 1,
    (150, 148, 146): 1.5,
}


def weighted(rng: np.random.Generator, weights: Mapping[_T, float]) -> _T:
    """One key, drawn in proportion to its weight."""
    shares = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]


def dye(rng: np.random.Generator, garment: Garment) -> Color:
    """A colour of a garment, linear RGB."""
    return _varied(rng, _DYES[weighted(rng, _weights(garment))][0], 0.07)


def contrasting(rng: np.random.Generator, garment: Garment, other: Color) -> Color:
    """A colour of a garment that is told from another colour at a glance, through another camera too."""
    weights = _weights(garment)
    apart = {name: np.abs(np.sqrt(_linear(_DYES[name][0])) - np.sqrt(other)).sum() for name in weights}
    away = {name: weight for name, weight in weights.items() if apart[name] > 0.55}
    return _varied(rng, _DYES[weighted(rng, away)][0], 0.07)


def black_or_white(rng: np.random.Generator, white: float) -> Color:
    """White with a probability, else black."""
    return _varied(rng, _DYES["white" if rng.random() < white else "black"][0], 0.03)


def skin_color(rng: np.random.Generator) -> Color:
    """A colour of skin, linear RGB."""
    return _varied(rng, weighted(rng, _SKINS), 0.04)


def hair_color(rng: np.random.Generator) -> Color:
    """A colour of hair, linear RGB."""
    return _varied(rng, weighted(rng, _HAIRS), 0.05)


def _weights(garment: Garment) -> dict[str, int]:
    column = _GARMENTS.index(garment)
    return {name: weights[column] for name, (_, weights) in _DYES.items() if weights[column]}


def _varied(rng: np.random.Generator, color: _Rgb, spread: float) -> Color:
    """An 8-bit sRGB colour made lighter or darker and slightly tinted, as linear RGB."""
    values = _linear(color) * np.exp(rng.normal(0, 2 * spread)) * np.exp(rng.normal(0, spread, 3))
    red, green, blue = np.clip(values, 0.004, 0.9).tolist()
    return red, green, blue


def _linear(color: _Rgb) -> np.ndarray:
    return (np.array(color) / 255) ** 2.2
