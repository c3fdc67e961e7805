"""Charts as inline SVG: coloured by the page's style sheet, in light and dark, with a tooltip at every value."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

__all__ = ["Bar", "Figure", "Series", "bar_chart", "line_chart", "nice_ticks", "tick_label"]

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38

_VISIBLE_DOTS = 40
"""Above this the dots of a line would touch: they show under the pointer only."""
_MOST_DOTS = 400
"""Above this a line has none, which keeps the page light."""
_COLOURS = 8
"""Classes s1 to s8 of the style sheet; a ninth line has the first one's again."""


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


class _Scale(NamedTuple):
    """Maps values linearly to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


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
    values = [y for line in series for _, y in line.points if math.isfinite(y)] or [0.0]
    ticks = nice_ticks(min(values), max(values), 5, whole=all(value.is_integer() for value in values))
    first, last = span if span[0] < span[1] else (span[0] - 1, span[0] + 1)
    across = _Scale(first, last, LEFT, WIDTH - RIGHT)
    up = _vertical(ticks)
    svg = _canvas(label)
    for epoch in shaded:
        left, right = (across(min(max(x, first), last)) for x in (epoch - 0.5, epoch + 0.5))
        _rect(svg, "shade", left, TOP, right - left, HEIGHT - BOTTOM - TOP)
    _draw_grid(svg, ticks, up)
    marks = nice_ticks(first, last, 7, whole=all(float(x).is_integer() for line in series for x, _ in line.points))
    step = marks[1] - marks[0]
    marks = [mark for mark in marks if span[0] <= mark + step / 1e6 and mark - step / 1e6 <= span[1]]
    _draw_foot(svg, [(across(mark), tick_label(mark, step)) for mark in marks], foot)
    if marked is not None:
        path = {"class": "mark", "d": f"M{across(marked):.1f} {TOP}V{HEIGHT - BOTTOM}"}
        SubElement(SubElement(svg, "path", path), "title").text = f"{foot} {marked:g}"
    for index, line in enumerate(series):
        _draw_line(svg, line, index % _COLOURS + 1, across, up, foot)
    return _markup(svg)


def bar_chart(bars: Sequence[Bar], *, label: str, foot: str) -> Markup:
    """Bars side by side, from zero.

    Args:
        bars: At least one; the k-th part of each has the style sheet's class `s<k>`.
        label: What the chart shows, for readers who cannot see it.
        foot: What the bars' labels are.

    Returns:
        An `svg` element.
    """
    ticks = nice_ticks(0, max(sum(bar.parts) for bar in bars), 5)
    up = _vertical(ticks)
    slot = (WIDTH - LEFT - RIGHT) / len(bars)
    width = max(min(0.8 * slot, 40), 0.5)
    svg = _canvas(label)
    _draw_grid(svg, ticks, up)
    centres = [LEFT + (index + 0.5) * slot for index in range(len(bars))]
    for centre, bar in zip(centres, bars, strict=True):
        base = 0.0
        for number, (height, tip) in enumerate(zip(bar.parts, bar.tips, strict=True), start=1):
            top = up(base + height)
            shape = _rect(svg, f"bar s{(number - 1) % _COLOURS + 1}", centre - width / 2, top, width, up(base) - top)
            SubElement(shape, "title").text = tip
            base += height
    labels = [(centre, bar.label) for centre, bar in zip(centres, bars, strict=True)]
    _draw_foot(svg, [labels[index] for index in _thinned(len(bars))], foot)
    return _markup(svg)


def nice_ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high].

    Args:
        low: Smallest value.
        high: Largest value, not below `low`; an empty range is widened.
        count: Most intervals between `low` and `high`.
        whole: Keep to whole numbers.
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
    """A tick as text, with the digits that tell it from its neighbours, a `step` away."""
    if abs(value) < step / 2:
        return "0"
    place = math.floor(math.log10(step) + 1e-9)
    if -3 <= place < 5:
        return f"{value:,.{max(0, -place)}f}"
    digits = max(0, math.floor(math.log10(abs(value)) + 1e-9) - place)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _vertical(ticks: Sequence[float]) -> _Scale:
    return _Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)


def _thinned(count: int) -> list[int]:
    """Which of `count` labels fit beside each other: evenly spaced, the first and the last among them."""
    step = int(nice_ticks(0, count, 8, whole=True)[1])
    return [*(index for index in range(0, count - 1, step) if count - 1 - index >= step), count - 1]


def _canvas(label: str) -> Element:
    return Element("svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": label})


def _draw_grid(svg: Element, ticks: Sequence[float], up: _Scale) -> None:
    lines = "".join(f"M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}" for tick in ticks)
    SubElement(svg, "path", {"class": "grid", "d": lines})
    for tick in ticks:
        _text(svg, "end", LEFT - 6, up(tick) + 4, tick_label(tick, ticks[1] - ticks[0]))


def _draw_foot(svg: Element, marks: Sequence[tuple[float, str]], title: str) -> None:
    for x, text in marks:
        _text(svg, "middle", x, HEIGHT - BOTTOM + 15, text)
    _text(svg, "middle", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, title)


def _draw_line(svg: Element, line: Series, number: int, across: _Scale, up: _Scale, foot: str) -> None:
    if not line.points:
        return
    finite = [math.isfinite(y) for _, y in line.points]
    places = [f"{across(x):.1f} {up(y):.1f}" if math.isfinite(y) else "" for x, y in line.points]
    verbs = ["M", *("L" if known else "M" for known, _ in pairwise(finite))]
    strokes = "".join(verb + place for verb, place in zip(verbs, places, strict=True) if place)
    SubElement(svg, "path", {"class": f"line s{number}", "d": strokes})
    if len(line.points) > _MOST_DOTS:
        return
    style = f"dot s{number}" if len(line.points) <= _VISIBLE_DOTS else f"dot quiet s{number}"
    for x, y in line.points:
        if math.isfinite(y):
            dot = SubElement(
                svg, "circle", {"class": style, "cx": f"{across(x):.1f}", "cy": f"{up(y):.1f}", "r": "2.5"}
            )
            SubElement(dot, "title").text = f"{foot} {x:g}: {line.name} {line.text.format(y)}"


def _rect(svg: Element, name: str, x: float, y: float, width: float, height: float) -> Element:
    box = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return SubElement(svg, "rect", {"class": name, **box})


def _text(svg: Element, anchor: str, x: float, y: float, text: str) -> None:
    SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = text


def _markup(svg: Element) -> Markup:
    # ElementTree has escaped every text and attribute.
    return Markup(tostring(svg, encoding="unicode"))
