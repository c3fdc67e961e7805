import math
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reidkit.pages.charts import Bar, Series, bar_chart, line_chart, nice_ticks, tick_label

FINITE = st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-12 else 0.0)


def _texts(svg: Element, anchor: str) -> dict[str, Element]:
    return {node.text or "": node for node in svg.iter("text") if node.get("text-anchor") == anchor}


def _height_of(svg: Element, value: float) -> float:
    """Where a value must lie, found from two labelled ticks of the axis."""
    (low, low_node), *_, (high, high_node) = _texts(svg, "end").items()
    bottom, top = (float(node.attrib["y"]) - 4 for node in (low_node, high_node))
    share = (value - float(low.replace(",", ""))) / (float(high.replace(",", "")) - float(low.replace(",", "")))
    return bottom + share * (top - bottom)


def _tips(svg: Element, tag: str) -> list[str]:
    return [node.findtext("title", "") for node in svg.iter(tag) if node.find("title") is not None]


@given(FINITE, FINITE, st.integers(2, 10), st.booleans())
def test_ticks_are_few_round_and_enclose(a: float, b: float, count: int, whole: bool) -> None:
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high, count, whole=whole)
    step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    slack = 1e-6 * step
    assert ticks[0] <= low + slack
    assert high <= ticks[-1] + slack
    assert 2 <= len(ticks) <= count + 2
    assert all(second - first == pytest.approx(step) for first, second in pairwise(ticks))
    assert f"{step:.0e}"[0] in "125"
    if whole:
        assert all(tick == round(tick) for tick in ticks)


@given(FINITE, FINITE)
@example(1.0, 1.0000001)
@example(0.0, 1e-3)
@example(123456.0, 123457.0)
def test_ticks_have_labels_of_their_own(a: float, b: float) -> None:
    ticks = nice_ticks(min(a, b), max(a, b), 5)
    labels = [tick_label(tick, ticks[1] - ticks[0]) for tick in ticks]
    assert len(set(labels)) == len(labels)
    values = [float(label.replace(",", "")) for label in labels]
    assert values == pytest.approx(ticks, rel=1e-2, abs=1e-3 * (ticks[1] - ticks[0]))


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (40, 20, "40"),
        (2000, 500, "2,000"),
        (0.30000000000000004, 0.1, "0.3"),
        (1.5, 0.05, "1.50"),
        (3.5e-4, 5e-5, "3.5e-4"),
        (1e-3, 2e-4, "1.0e-3"),
        (8e-4, 2e-4, "8e-4"),
        (1e-3, 1e-3, "0.001"),
        (-0.0, 0.1, "0"),
        (4e6, 2e6, "4e6"),
    ],
)
def test_tick_labels(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0, 0, 1), (40, 36, 44), (99.99999999999999, 90, 110), (-3, -4, -2)]
)
def test_a_constant_gets_room_around_it(value: float, low: float, high: float) -> None:
    ticks = nice_ticks(value, value, 5)
    assert ticks[0] == pytest.approx(low, abs=1)
    assert ticks[-1] == pytest.approx(high, abs=1)
    assert nice_ticks(100.0 - 1e-14, 100.0, 5) == nice_ticks(100.0, 100.0, 5)


def test_dots_lie_where_the_axis_says() -> None:
    points = [(0, 10.0), (1, 32.5), (2, 95.0), (4, 50.0)]
    svg = fromstring(line_chart([Series("mAP", points, "{:.1f} %")], label="Accuracy", span=(0, 4)))
    dots = list(svg.iter("circle"))
    assert [float(dot.attrib["cy"]) for dot in dots] == pytest.approx([_height_of(svg, y) for _, y in points], abs=0.06)
    across = [float(dot.attrib["cx"]) for dot in dots]
    assert [(x - across[0]) / (across[-1] - across[0]) for x in across] == pytest.approx([0, 0.25, 0.5, 1], abs=1e-3)
    marks = _texts(svg, "middle")
    assert [float(marks[str(x)].attrib["x"]) for x, _ in points] == pytest.approx(across, abs=0.11)
    assert _tips(svg, "circle") == [
        "epoch 0: mAP 10.0 %",
        "epoch 1: mAP 32.5 %",
        "epoch 2: mAP 95.0 %",
        "epoch 4: mAP 50.0 %",
    ]
    assert svg.get("aria-label") == "Accuracy"


def test_a_quantity_other_than_epochs_and_a_mark() -> None:
    points = [(0.1, 3.0), (0.3, 5.0), (0.7, 4.0)]
    svg = fromstring(line_chart([Series("noise", points)], label="", span=(0, 0.8), foot="eps", marked=0.3))
    dots = [float(dot.attrib["cx"]) for dot in svg.iter("circle")]
    marks = {text: float(node.attrib["x"]) for text, node in _texts(svg, "middle").items() if text != "eps"}
    assert list(marks) == ["0", "0.2", "0.4", "0.6", "0.8"]
    assert dots[1] == pytest.approx((marks["0.2"] + marks["0.4"]) / 2, abs=0.11)
    assert _tips(svg, "circle")[0] == "eps 0.1: noise 3"
    (mark,) = (path for path in svg.iter("path") if path.get("class") == "mark")
    assert mark.attrib["d"].startswith(f"M{dots[1]}")
    assert mark.findtext("title") == "eps 0.3"


def test_each_line_has_a_colour() -> None:
    svg = fromstring(line_chart([Series(name, [(0, 1.0)]) for name in "ab"], label="", span=(0, 1)))
    assert [dot.get("class") for dot in svg.iter("circle")] == ["dot s1", "dot s2"]


def test_unknown_values_interrupt_the_line() -> None:
    values = [math.nan, 1.0, 2.0, math.nan, math.nan, 3.0, 2.0, math.nan]
    svg = fromstring(line_chart([Series("loss", list(enumerate(values)))], label="", span=(0, 7)))
    (line,) = (path.attrib["d"] for path in svg.iter("path") if path.get("class") == "line s1")
    assert [character for character in line if character.isalpha()] == ["M", "L", "M", "L"]
    assert len(list(svg.iter("circle"))) == 4


def test_shaded_epochs_stay_inside_the_axis() -> None:
    svg = fromstring(line_chart([Series("loss", [(0, 1.0), (4, 2.0)])], label="", span=(0, 4), shaded=[0, 2]))
    marks = {text: float(node.attrib["x"]) for text, node in _texts(svg, "middle").items()}
    slot = (marks["4"] - marks["0"]) / 4
    boxes = [(float(box.attrib["x"]), float(box.attrib["width"])) for box in svg.iter("rect")]
    assert boxes == [
        pytest.approx((marks["0"], slot / 2), abs=0.2),
        pytest.approx((marks["2"] - slot / 2, slot), abs=0.2),
    ]


def test_a_single_epoch_can_be_drawn() -> None:
    svg = fromstring(line_chart([Series("mAP", [(0, 5.0)])], label="", span=(0, 0)))
    (dot,) = svg.iter("circle")
    assert list(_texts(svg, "middle")) == ["0", "epoch"]
    assert float(dot.attrib["cx"]) == pytest.approx(float(_texts(svg, "middle")["0"].attrib["x"]))


def test_long_lines_hide_their_dots() -> None:
    charts = [
        fromstring(line_chart([Series("loss", [(x, x % 7.0) for x in range(count)])], label="", span=(0, count)))
        for count in (40, 41, 401)
    ]
    assert [len(list(svg.iter("circle"))) for svg in charts] == [40, 41, 0]
    assert [{dot.get("class") for dot in svg.iter("circle")} for svg in charts] == [{"dot s1"}, {"dot quiet s1"}, set()]


def test_bars_are_stacked_to_scale() -> None:
    bars = [Bar("1", [2.0, 3.0], ["a", "b"]), Bar("2", [0.0, 10.0], ["c", "d"])]
    svg = fromstring(bar_chart(bars, label="Time", foot="epoch"))
    boxes = [(float(box.attrib["y"]), float(box.attrib["height"])) for box in svg.iter("rect")]
    edges = [(0, 2), (2, 5), (0, 0), (0, 10)]
    expected = [(_height_of(svg, top), _height_of(svg, base) - _height_of(svg, top)) for base, top in edges]
    assert boxes == [pytest.approx(box, abs=0.11) for box in expected]
    assert [box.get("class") for box in svg.iter("rect")] == ["bar s1", "bar s2", "bar s1", "bar s2"]
    assert _tips(svg, "rect") == ["a", "b", "c", "d"]
    centres = [float(_texts(svg, "middle")[name].attrib["x"]) for name in "12"]
    middles = [float(box.attrib["x"]) + float(box.attrib["width"]) / 2 for box in svg.iter("rect")]
    assert middles == pytest.approx([centres[0], centres[0], centres[1], centres[1]], abs=0.11)


@given(st.integers(1, 500))
def test_labels_of_bars_do_not_touch(count: int) -> None:
    svg = fromstring(bar_chart([Bar(str(index), [1.0], [""]) for index in range(count)], label="", foot="epoch"))
    marks = {text: float(node.attrib["x"]) for text, node in _texts(svg, "middle").items() if text != "epoch"}
    assert {"0", str(count - 1)} <= set(marks)
    assert all(second - first >= 20 for first, second in pairwise(marks.values()))


def test_names_are_escaped() -> None:
    name = """<script>"&'</script>"""
    svg = line_chart([Series(name, [(0, 1.0)])], label=name, span=(0, 1)) + bar_chart(
        [Bar(name, [1.0], [name])], label=name, foot=name
    )
    assert "<script" not in svg
    assert fromstring(line_chart([Series(name, [(0, 1.0)])], label=name, span=(0, 1))).get("aria-label") == name
