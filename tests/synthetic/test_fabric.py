from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.synthetic.fabric import leg_paint, sleeve_paint, upper_paint
from reidkit.synthetic.raster import Array, Color, TubePaint
from reidkit.synthetic.wardrobe import Bag, Lower, Pattern, Upper, person_of

RED, BLUE, GREEN, SKIN = (0.8, 0.0, 0.0), (0.0, 0.0, 0.8), (0.0, 0.8, 0.0), (0.7, 0.5, 0.4)
NO_BAG = Bag("none", GREEN, "left", 1.0)
SHIRT = Upper("t-shirt", RED, BLUE, GREEN, "plain", opened=False, long_sleeves=False, hem=1.0, thickness=0.01)
LOWER = Lower("shorts", BLUE, stripe=None, hem=1.6, looseness=0.0)


def painted(paint: TubePaint, t: Array, angle: Array) -> Array:
    """Colours (n, 3) of any paint."""
    colors: Array = paint(t, angle) if callable(paint) else np.tile(np.array(paint, dtype=np.float32), (len(t), 1))
    return colors


def sheet(upper: Upper, bag: Bag = NO_BAG) -> tuple[Array, Array, Array]:
    """Places (metres below the neck), angles and colours all over a garment half a metre long."""
    t, angle = (grid.ravel().astype(np.float32) for grid in np.mgrid[0:1:101j, -np.pi : np.pi : 181j])
    return t * 0.5, angle, painted(upper_paint(upper, bag, SKIN, length=0.5), t, angle)


def where(colors: Array, color: Color) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = np.abs(colors - np.array(color)).max(axis=1) < 1e-3
    return hits


def test_a_plain_shirt_has_one_color_and_a_neckline_in_front() -> None:
    down, angle, colors = sheet(SHIRT)
    assert (where(colors, RED) | where(colors, SKIN)).all()
    neckline = where(colors, SKIN)
    assert down[neckline].max() < 0.1
    assert np.abs(angle[neckline]).max() < 1


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [("stripes", 0.4, 0.6), ("pinstripes", 0.4, 0.6), ("dots", 0.15, 0.4), ("two-tone", 0.4, 0.5), ("logo", 0.1, 0.2)],
)
def test_the_accent_covers_its_share(pattern: Pattern, least: float, most: float) -> None:
    _, _, colors = sheet(replace(SHIRT, pattern=pattern))
    assert least < where(colors, BLUE).mean() < most


def test_stripes_run_round_and_pinstripes_run_down() -> None:
    down, angle, colors = sheet(replace(SHIRT, pattern="stripes"))
    blue = where(colors, BLUE)
    assert all(len(set(blue[down == place].tolist())) == 1 for place in np.unique(down[down > 0.1]))
    down, angle, colors = sheet(replace(SHIRT, pattern="pinstripes"))
    blue = where(colors, BLUE)
    assert all(len(set(blue[(angle == side) & (down > 0.1)].tolist())) == 1 for side in np.unique(angle))


def test_checks_mix_three_shades() -> None:
    _, _, colors = sheet(replace(SHIRT, pattern="checks"))
    mixed = (0.4, 0.0, 0.4)
    assert min(where(colors, color).mean() for color in (RED, BLUE, mixed)) > 0.1


def test_a_logo_is_seen_from_front_and_back_but_not_from_the_side() -> None:
    _, angle, colors = sheet(replace(SHIRT, pattern="logo"))
    blue = where(colors, BLUE)
    assert blue[np.abs(angle) < 0.5].any()
    assert blue[np.abs(angle) > 2.7].any()
    assert not blue[np.abs(np.abs(angle) - np.pi / 2) < 0.5].any()


def test_an_open_jacket_shows_the_inner_garment_in_front_only() -> None:
    _, angle, colors = sheet(replace(SHIRT, kind="jacket", opened=True))
    inner = where(colors, GREEN)
    assert inner[np.abs(angle) < 0.1].mean() > 0.8
    assert not inner[np.abs(angle) > 1].any()


def test_straps_show_in_front() -> None:
    _, angle, colors = sheet(SHIRT, replace(NO_BAG, kind="backpack"))
    strap = where(colors, GREEN)
    assert strap[angle > 0].sum() == strap[angle < 0].sum() > 0
    assert np.abs(angle[strap]).max() < 1
    down, angle, colors = sheet(SHIRT, replace(NO_BAG, kind="shoulder bag"))
    strap = where(colors, GREEN)
    front = np.abs(angle) < 1
    assert np.corrcoef(down[strap & front], angle[strap & front])[0, 1] > 0.9  # down towards the left hip


def test_short_sleeves_end_above_the_elbow() -> None:
    t = np.linspace(0, 1, 50, dtype=np.float32)
    upper_arm = painted(sleeve_paint(SHIRT, SKIN, upper_arm=True), t, t)
    assert where(upper_arm, RED)[:25].all()
    assert where(upper_arm, SKIN)[40:].all()
    assert where(painted(sleeve_paint(SHIRT, SKIN, upper_arm=False), t, t), SKIN).all()
    raglan = replace(SHIRT, long_sleeves=True, pattern="raglan")
    assert where(painted(sleeve_paint(raglan, SKIN, upper_arm=False), t, t), BLUE).all()


def test_shorts_end_above_the_knee_and_socks_show() -> None:
    person = replace(person_of(0, "summer", 1), skin=SKIN, socks=GREEN)
    t = np.linspace(0, 1, 101, dtype=np.float32)
    thigh = painted(leg_paint(LOWER, person, LOWER.hem, start=1, side=1), t, t * 0)
    assert where(thigh, BLUE)[:59].all()
    assert where(thigh, SKIN)[62:].all()
    calf = painted(leg_paint(LOWER, person, LOWER.hem, start=2, side=1), t, t * 0)
    assert where(calf, SKIN)[:70].all()
    assert where(calf, GREEN)[75:].all()


def test_a_striped_leg_has_its_stripe_outside() -> None:
    trousers = replace(LOWER, kind="trousers", hem=3.0, stripe=RED)
    angle = np.linspace(-np.pi, np.pi, 101, dtype=np.float32)
    for side in (1.0, -1.0):
        paint = leg_paint(trousers, person_of(0, "summer", 1), 3.0, start=1, side=side)
        colors = painted(paint, np.full(101, 0.5, dtype=np.float32), angle)
        assert np.mean(angle[where(colors, RED)]) == pytest.approx(side * np.pi / 2, abs=0.05)
