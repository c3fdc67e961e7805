"""Charts as inline SVG: coloured by the page's style sheet, in light and dark, with a tooltip at every value."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

__all__ = ["Bar", "Figure", "Series", "bar_chart", "line_chart", "nice_ticks", "tick_label"]

Scale = Callable[[float], float]

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38

_VISIBLE_DOTS = 40
"""Above this the dots of a line would touch: they show under the pointer only."""
_MOST_DOTS = 400
"""Above this a line has none, which keeps the page light."""
_COLOURS = 8
"""Classes s1 to s8 of the style sheet; a ninth line has the first one's again."""

# Markup.format escapes what it inserts.
_SVG = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
_PATH = Markup('<path class="{}" d="{}" />')
_MARK = Markup('<path class="mark" d="M{:.1f} {}V{}"><title>{} {:g}</title></path>')
_SHADE = Markup('<rect class="shade" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" />')
_BAR = Markup('<rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
_DOT = Markup('<circle class="{} s{}" cx="{:.1f}" cy="{:.1f}" r="2.5"><title>{} {:g}: {} {}</title></circle>')
_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')


class Series(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y) in ascending x; a NaN interrupts the line."""
    text: str = "{:,.4g}"
    """Format of a value in its tooltip."""


class Figure(NamedTuple):
    """A chart with its caption."""

    title: str
    keys: list[str]
    """Names of the colours, in the order of the style sheet's classes; empty where the title says it all."""
    drawing: Markup
    """An `svg` element."""


class Bar(NamedTuple):
    """One bar, of one or several parts."""

    label: str
    parts: Sequence[float]
    """Heights from the bottom up."""
    tips: Sequence[str]
    """Tooltip of each part."""


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    span: tuple[float, float],
    foot: str = "epoch",
    shaded: Sequence[float] = (),
    marked: float | None = None,
) -> Markup:
    """Draw lines, over epochs or another quantity.

    Args:
        series: The k-th line has the style sheet's class `s<k>`, even if others have no points.
        label: What the chart shows, for readers who cannot see it.
        span: First and last value of the horizontal axis.
        foot: Name of the horizontal axis.
        shaded: Epochs to mark with a grey band.
        marked: Value of the horizontal axis to mark with a dashed line.

    Returns:
        An `svg` element.
    """
    # Scales
    values = [y for line in series for _, y in line.points if math.isfinite(y)] or [0.0]
    ticks = nice_ticks(min(values), max(values), 5, whole=all(value.is_integer() for value in values))
    first, last = span if span[0] < span[1] else (span[0] - 1, span[0] + 1)
    across, up = _scale(first, last, LEFT, WIDTH - RIGHT), _scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    marks = nice_ticks(first, last, 7, whole=all(float(x).is_integer() for line in series for x, _ in line.points))
    step = marks[1] - marks[0]
    marks = [mark for mark in marks if span[0] <= mark + step / 1e6 and mark - step / 1e6 <= span[1]]

    # Drawing, from the back to the front
    bands = [[across(min(max(x, first), last)) for x in (epoch - 0.5, epoch + 0.5)] for epoch in shaded]
    parts = [_SHADE.format(left, TOP, right - left, HEIGHT - BOTTOM - TOP) for left, right in bands]
    parts += _axes(ticks, up, [(across(mark), tick_label(mark, step)) for mark in marks], foot)
    parts += [] if marked is None else [_MARK.format(across(marked), TOP, HEIGHT - BOTTOM, foot, marked)]
    for index, line in enumerate(series):
        parts += _line(line, index % _COLOURS + 1, across, up, foot)
    return _SVG.format(WIDTH, HEIGHT, label, Markup().join(parts))


def bar_chart(bars: Sequence[Bar], *, label: str, foot: str) -> Markup:
    """Draw bars side by side, from zero.

    Args:
        bars: At least one; the k-th part of each has the style sheet's class `s<k>`.
        label: What the chart shows, for readers who cannot see it.
        foot: What the bars' labels are.

    Returns:
        An `svg` element.
    """
    ticks = nice_ticks(0, max(sum(bar.parts) for bar in bars), 5)
    up = _scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - LEFT - RIGHT) / len(bars)
    width = max(min(0.8 * slot, 40), 0.5)
    centres = [LEFT + (index + 0.5) * slot for index in range(len(bars))]
    # Labels that fit beside each other: evenly spaced, the first and the last among them
    end, step = len(bars) - 1, int(nice_ticks(0, len(bars), 8, whole=True)[1])
    labelled = [*(index for index in range(0, end, step) if end - index >= step), end]
    parts = _axes(ticks, up, [(centres[index], bars[index].label) for index in labelled], foot)
    for centre, bar in zip(centres, bars, strict=True):
        base = 0.0
        for number, (height, tip) in enumerate(zip(bar.parts, bar.tips, strict=True)):
            top, bottom = up(base + height), up(base)
            parts.append(_BAR.format(number % _COLOURS + 1, centre - width / 2, top, width, bottom - top, tip))
            base += height
    return _SVG.format(WIDTH, HEIGHT, label, Markup().join(parts))


def nice_ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high].

    There are at most `count` intervals between `low` and `high`, which is not below; an empty range is widened. `whole`
    keeps to whole numbers.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(low) / 10
        low, high = (low - margin, high + margin) if low else (0.0, 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    # Multiples of the step, not a running sum: rounding errors must not add up.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def tick_label(value: float, step: float) -> str:
    """A tick as text, with enough digits to differ from its neighbours, a `step` away."""
    if abs(value) < step / 2:
        return "0"
    place = math.floor(math.log10(step) + 1e-9)
    if -3 <= place < 5:
        return f"{value:,.{max(0, -place)}f}"
    digits = max(0, math.floor(math.log10(abs(value)) + 1e-9) - place)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """Map values from [low, high] linearly to pixels from `start` to `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _axes(ticks: Sequence[float], up: Scale, marks: Iterable[tuple[float, str]], foot: str) -> list[Markup]:
    """Horizontal grid with its labels, and the labels and the title of the horizontal axis."""
    return [
        _PATH.format("grid", "".join(f"M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}" for tick in ticks)),
        *(_TEXT.format(LEFT - 6, up(tick) + 4, "end", tick_label(tick, ticks[1] - ticks[0])) for tick in ticks),
        *(_TEXT.format(x, HEIGHT - BOTTOM + 15, "middle", text) for x, text in marks),
        _TEXT.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", foot),
    ]


def _line(line: Series, number: int, across: Scale, up: Scale, foot: str) -> list[Markup]:
    """Strokes between neighbouring finite values, and a dot at each of them."""
    if not line.points:
        return []
    finite = [math.isfinite(y) for _, y in line.points]
    places = [f"{across(x):.1f} {up(y):.1f}" if math.isfinite(y) else "" for x, y in line.points]
    verbs = ["M", *("L" if known else "M" for known, _ in pairwise(finite))]
    strokes = "".join(verb + place for verb, place in zip(verbs, places, strict=True) if place)
    style = "dot" if len(line.points) <= _VISIBLE_DOTS else "dot quiet"
    dots = [
        _DOT.format(style, number, across(x), up(y), foot, x, line.name, line.text.format(y))
        for x, y in (line.points if len(line.points) <= _MOST_DOTS else ())
        if math.isfinite(y)
    ]
    return [_PATH.format(f"line s{number}", strokes), *dots]
