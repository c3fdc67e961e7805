"""Backdrops of places: facades, shop fronts, trees, parked cars, the wall of a hall."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

__all__ = ["KINDS", "Backdrop", "draw_backdrop"]

Rgb = tuple[int, int, int]

KINDS = ("pavement", "shops", "park", "wall", "road", "hall")

_PAINTS: tuple[Rgb, ...] = ((168, 38, 40), (40, 70, 130), (210, 208, 204), (44, 46, 50), (130, 134, 140), (32, 84, 62))
_SIGNS: tuple[Rgb, ...] = ((190, 40, 44), (30, 80, 160), (226, 180, 50), (36, 120, 80), (230, 228, 220), (60, 40, 90))
_GOODS: tuple[Rgb, ...] = ((200, 60, 70), (70, 110, 180), (220, 190, 90), (90, 150, 90), (220, 220, 215), (60, 50, 60))


@dataclass(frozen=True)
class Backdrop:
    """The strip of a picture above the ground line, which is in row `base`, at `scale` pixels per metre.

    `width` is that of the picture in columns, `rng` the random stream of the place; `bare` trees have no leaves.
    """

    draw: ImageDraw.ImageDraw
    rng: np.random.Generator
    base: int
    scale: float
    width: int
    bare: bool

    def box(self, x: float, y: float, width: float, height: float, color: Rgb, radius: float = 0.0) -> None:
        """A rectangle by its lower left corner: x in pixels, height above the ground and size in metres."""
        right, bottom = x + width * self.scale, self.base - y * self.scale
        corners = (x, bottom - height * self.scale, right, bottom)
        self.draw.rounded_rectangle(corners, radius * self.scale, fill=color)

    def ball(self, x: float, y: float, radius: float, color: Rgb) -> None:
        """A disc by its centre: x in pixels, height and radius in metres."""
        r, row = radius * self.scale, self.base - y * self.scale
        self.draw.ellipse((x - r, row - r, x + r, row + r), fill=color)

    def pick(self, colors: tuple[Rgb, ...]) -> Rgb:
        """One of some colours, varied."""
        return vary(self.rng, colors[int(self.rng.integers(len(colors)))], 0.15)


def draw_backdrop(kind: str, strip: Backdrop) -> None:
    """Draw the backdrop of one of `KINDS`."""
    _DRAWERS[kind](strip)


def vary(rng: np.random.Generator, color: Rgb, spread: float) -> Rgb:
    """A colour made lighter or darker and slightly tinted."""
    values = np.array(color) * np.exp(rng.normal(0, spread)) * np.exp(rng.normal(0, spread / 4, 3))
    red, green, blue = np.clip(values, 0, 255).astype(int).tolist()
    return red, green, blue


def _row(strip: Backdrop, least: float, most: float, place: Callable[[float, float], None]) -> None:
    """Call `place` with x (pixels) and width (metres) from left to right, widths drawn from a range."""
    x = float(-strip.rng.uniform(0, least * strip.scale))
    while x < strip.width:
        width = float(strip.rng.uniform(least, most))
        place(x, width)
        x += width * strip.scale


def _facade(strip: Backdrop, color: Rgb, *, bricks: bool) -> None:
    """A house wall with plinth, windows and doors."""
    strip.box(0, 0, strip.width / strip.scale, 4, color)
    if bricks:
        for row in np.arange(0, 4, 0.11):
            shift = 0.0 if round(row / 0.11) % 2 else 0.17
            for x in np.arange(-shift, strip.width / strip.scale, 0.34):
                strip.box(x * strip.scale, row, 0.32, 0.09, vary(strip.rng, color, 0.09))
    strip.box(0, 0, strip.width / strip.scale, 0.35, vary(strip.rng, (112, 108, 102), 0.1))

    def bay(x: float, width: float) -> None:
        inner = x + 0.25 * width * strip.scale
        if strip.rng.random() < 0.28:
            strip.box(inner - 0.08 * strip.scale, 0, 1.16, 2.3, vary(strip.rng, (196, 192, 184), 0.1))
            strip.box(inner, 0, 1.0, 2.2, strip.pick(_PAINTS))
            strip.box(inner + 0.82 * strip.scale, 1.0, 0.06, 0.12, (190, 180, 150))
        else:
            _window(strip, inner, 0.9, 0.55 * width, 1.7)

    _row(strip, 2.0, 3.6, bay)
    for x in strip.rng.uniform(0, strip.width, 3):
        strip.box(float(x), 0, 0.11, 4, vary(strip.rng, (90, 92, 96), 0.2))


def _window(strip: Backdrop, x: float, sill: float, width: float, height: float) -> None:
    strip.box(x - 0.08 * strip.scale, sill - 0.08, width + 0.16, height + 0.16, (214, 210, 202))
    strip.box(x, sill, width, height, vary(strip.rng, (62, 74, 88), 0.25))
    if strip.rng.random() < 0.5:
        strip.box(x, sill + 0.5 * height, width, 0.5 * height, vary(strip.rng, (122, 146, 168), 0.15))
    strip.box(x + width / 2 * strip.scale, sill, 0.06, height, (214, 210, 202))


def _pavement(strip: Backdrop) -> None:
    _facade(strip, vary(strip.rng, (184, 168, 140), 0.15), bricks=False)
    for x in strip.rng.uniform(0, strip.width, 5):
        kind = strip.rng.random()
        if kind < 0.4:
            _bicycle(strip, float(x))
        elif kind < 0.7:
            _planter(strip, float(x))
        else:
            strip.box(float(x), 0, 0.5, 0.95, vary(strip.rng, (52, 88, 66), 0.2), 0.06)


def _wall(strip: Backdrop) -> None:
    _facade(strip, vary(strip.rng, (142, 84, 66), 0.12), bricks=True)
    for x in strip.rng.uniform(0, strip.width, 6):
        if strip.rng.random() < 0.5:
            _bicycle(strip, float(x))
        else:
            _bench(strip, float(x))


def _shops(strip: Backdrop) -> None:
    strip.box(0, 0, strip.width / strip.scale, 4, vary(strip.rng, (96, 92, 90), 0.15))

    def shop(x: float, width: float) -> None:
        scale, rng = strip.scale, strip.rng
        strip.box(x, 0, width - 0.15, 3.0, strip.pick(_PAINTS))
        strip.box(x + 0.15 * scale, 0.45, width - 1.5, 1.95, vary(rng, (196, 190, 168), 0.2))
        for good in np.arange(0.25, width - 1.6, 0.33):
            top = float(rng.uniform(0.3, 1.4))
            strip.box(x + good * scale, 0.5, 0.26, top, strip.pick(_GOODS), 0.1)
        strip.box(x + (width - 1.2) * scale, 0, 0.9, 2.35, vary(rng, (58, 66, 76), 0.25))
        sign = strip.pick(_SIGNS)
        strip.box(x, 2.5, width - 0.15, 0.55, sign)
        letters = (238, 236, 228) if sum(sign) < 420 else (40, 40, 44)
        for place in np.arange(0.4, width - 0.8, 0.26):
            if rng.random() < 0.8:
                strip.box(x + place * scale, 2.65, 0.16, 0.26, letters)
        if rng.random() < 0.4:
            awning = (sign, (226, 222, 212))
            for i, place in enumerate(np.arange(0, width - 0.2, 0.3)):
                strip.box(x + place * scale, 2.15, 0.3, 0.4, awning[i % 2])

    _row(strip, 3.2, 5.0, shop)


def _park(strip: Backdrop) -> None:
    strip.box(0, 0, strip.width / strip.scale, 4, (190, 204, 214) if not strip.bare else (186, 188, 192))
    far = (74, 98, 62) if not strip.bare else (112, 106, 98)
    for x in np.arange(0, strip.width, 22):
        strip.ball(float(x), float(strip.rng.uniform(0.6, 1.9)), 0.7, vary(strip.rng, far, 0.14))
    leaf = (66, 106, 44) if not strip.bare else (92, 84, 74)
    _row(strip, 0.5, 1.0, lambda x, width: _bush(strip, x, width, leaf))
    for x in np.sort(strip.rng.uniform(0, strip.width, 9)):
        _tree(strip, float(x), leaf)
    for x in strip.rng.uniform(0, strip.width, 3):
        _bench(strip, float(x))


def _bush(strip: Backdrop, x: float, width: float, leaf: Rgb) -> None:
    height = float(strip.rng.uniform(0.15, 0.7))
    for _ in range(7):
        off, up = strip.rng.uniform(-0.3, width + 0.3), strip.rng.uniform(0, height)
        strip.ball(x + float(off) * strip.scale, float(up), 0.22, vary(strip.rng, leaf, 0.22))


def _tree(strip: Backdrop, x: float, leaf: Rgb) -> None:
    girth = float(strip.rng.uniform(0.16, 0.34))
    bark = vary(strip.rng, (84, 68, 54), 0.15)
    strip.box(x, 0, girth, 4, bark)
    strip.box(x, 0, girth * 0.35, 4, vary(strip.rng, (62, 50, 40), 0.1))
    if strip.bare:
        for _ in range(6):
            row = strip.base - float(strip.rng.uniform(1.2, 3)) * strip.scale
            reach = float(strip.rng.uniform(-1.3, 1.3)) * strip.scale
            strip.draw.line((x + 4, row, x + reach, row - abs(reach)), fill=bark, width=3)
        return
    for _ in range(26):
        off, up = strip.rng.normal(0, 0.6), strip.rng.uniform(1.7, 3.4)
        strip.ball(
            x + float(off) * strip.scale, float(up), float(strip.rng.uniform(0.15, 0.4)), vary(strip.rng, leaf, 0.25)
        )


def _road(strip: Backdrop) -> None:
    _facade(strip, vary(strip.rng, (150, 152, 156), 0.12), bricks=False)
    strip.box(0, 0, strip.width / strip.scale, 0.14, (168, 166, 160))

    def car(x: float, width: float) -> None:
        if strip.rng.random() < 0.75:
            _car(strip, x, strip.pick(_PAINTS))
        elif strip.rng.random() < 0.5:
            strip.box(x + strip.scale, 0, 0.1, 3.2, (96, 98, 102))
            strip.ball(x + 1.05 * strip.scale, 2.4, 0.34, strip.pick(_SIGNS))

    _row(strip, 4.4, 5.6, car)


def _car(strip: Backdrop, x: float, color: Rgb) -> None:
    s, base = strip.scale, strip.base
    cabin = [(0.7, 0.8), (1.25, 1.42), (2.9, 1.45), (3.6, 0.85)]
    strip.draw.polygon([(x + a * s, base - b * s) for a, b in cabin], fill=vary(strip.rng, color, 0.05))
    glass = [(0.95, 0.85), (1.35, 1.34), (2.82, 1.36), (3.3, 0.88)]
    strip.draw.polygon([(x + a * s, base - b * s) for a, b in glass], fill=vary(strip.rng, (52, 60, 70), 0.2))
    strip.box(x + 2.05 * s, 0.8, 0.1, 0.6, color)
    strip.box(x, 0.28, 4.2, 0.62, color, 0.18)
    strip.box(x, 0.28, 4.2, 0.14, (40, 40, 42), 0.05)
    strip.box(x + 4.02 * s, 0.62, 0.16, 0.14, (226, 220, 196))
    strip.box(x + 0.02 * s, 0.62, 0.14, 0.14, (170, 30, 30))
    for wheel in (0.85, 3.3):
        strip.ball(x + wheel * s, 0.3, 0.32, (28, 28, 30))
        strip.ball(x + wheel * s, 0.3, 0.17, (150, 152, 156))


def _hall(strip: Backdrop) -> None:
    wall = vary(strip.rng, (206, 198, 184), 0.08)
    strip.box(0, 0, strip.width / strip.scale, 4, wall)
    strip.box(0, 0, strip.width / strip.scale, 0.12, (92, 88, 84))

    def panel(x: float, width: float) -> None:
        kind, s = strip.rng.random(), strip.scale
        if kind < 0.3:
            strip.box(x + 0.3 * s, 0, 1.6, 2.2, vary(strip.rng, (126, 92, 62), 0.15))
            strip.box(x + 1.07 * s, 0, 0.05, 2.2, (70, 56, 44))
        elif kind < 0.55:
            strip.box(x + 0.4 * s, 0.9, 1.2, 1.5, strip.pick(_SIGNS))
            strip.box(x + 0.55 * s, 1.1, 0.9, 0.5, strip.pick(_GOODS))
        elif kind < 0.75:
            strip.box(x + 0.2 * s, 0.12, width - 0.5, 2.4, vary(strip.rng, (112, 140, 150), 0.15))
            strip.box(x + width / 2 * s, 0.12, 0.07, 2.4, (186, 188, 190))
        else:
            strip.box(x, 0, 0.6, 4, vary(strip.rng, (168, 164, 158), 0.08))
            strip.box(x + 0.42 * s, 0, 0.18, 4, vary(strip.rng, (134, 130, 126), 0.08))
            _planter(strip, x + 1.1 * s)

    _row(strip, 2.2, 3.4, panel)


def _bicycle(strip: Backdrop, x: float) -> None:
    s, base, color = strip.scale, strip.base, strip.pick(_PAINTS)
    for wheel in (0.0, 1.05):
        cx, cy, r = x + wheel * s, base - 0.34 * s, 0.33 * s
        strip.draw.ellipse((cx - r, cy - r, cx + r, cy + r), outline=(30, 30, 32), width=3)
    frame = [(0, 0.34), (0.38, 0.8), (0.9, 0.82), (0.5, 0.34), (0.38, 0.8), (0.34, 0.95), (0.5, 0.34), (0, 0.34)]
    strip.draw.line([(x + a * s, base - b * s) for a, b in frame], fill=color, width=4)
    strip.draw.line(
        [(x + a * s, base - b * s) for a, b in [(1.05, 0.34), (0.88, 1.02), (1.0, 1.04)]], fill=color, width=4
    )


def _bench(strip: Backdrop, x: float) -> None:
    s, wood = strip.scale, vary(strip.rng, (122, 86, 54), 0.15)
    for leg in (0.15, 1.4):
        strip.box(x + leg * s, 0, 0.1, 0.8, (50, 50, 52))
    for height in (0.42, 0.58, 0.72):
        strip.box(x, height, 1.65, 0.1, vary(strip.rng, wood, 0.06))


def _planter(strip: Backdrop, x: float) -> None:
    strip.box(x, 0, 0.6, 0.5, vary(strip.rng, (140, 98, 76), 0.2), 0.05)
    for _ in range(14):
        off, up = strip.rng.uniform(-0.1, 0.7), strip.rng.uniform(0.5, 1.15)
        strip.ball(x + float(off) * strip.scale, float(up), 0.13, vary(strip.rng, (70, 112, 52), 0.25))


_DRAWERS: dict[str, Callable[[Backdrop], None]] = {
    "pavement": _pavement,
    "shops": _shops,
    "park": _park,
    "wall": _wall,
    "road": _road,
    "hall": _hall,
}
