from dataclasses import replace

import numpy as np
import pytest

from reidkit.synthetic.figure import draw_person
from reidkit.synthetic.pose import Pose
from reidkit.synthetic.raster import Array, Canvas, Color, View
from reidkit.synthetic.wardrobe import Bag, Hair, Lower, Person, Upper, person_of

STILL = Pose(phase=0.0, stride=0.0, lean=0.0, nod=0.0, turn=0.0, arms=("swing", "swing"))
RED, BLUE, GREEN, BLACK = (0.8, 0.0, 0.0), (0.0, 0.0, 0.8), (0.0, 0.8, 0.0), (0.01, 0.01, 0.01)
SKIN, WHITE = (0.7, 0.5, 0.4), (0.8, 0.8, 0.8)
PERSON = replace(
    person_of(0, "summer", 1),
    body=replace(person_of(0, "summer", 1).body, height=1.75, girth=1.0),
    skin=SKIN,
    hair=Hair("short", BLACK, beard=False, hat="none", hat_color=GREEN, glasses=False),
    upper=Upper("t-shirt", RED, RED, RED, "plain", opened=False, long_sleeves=True, hem=0.8, thickness=0.01),
    lower=Lower("trousers", BLUE, stripe=None, hem=3.0, looseness=0.01),
    bag=Bag("none", GREEN, "left", 1.0),
    shoes=WHITE,
    sole=WHITE,
    socks=None,
    scarf=None,
)


def drawn(person: Person, yaw: float = 0.0, pose: Pose = STILL) -> Canvas:
    canvas = Canvas(height=256, width=128, scale=130.0, origin=(64.0, 244.0))
    draw_person(canvas, View(yaw, 0.1), person, pose)
    return canvas


def rows_of(canvas: Canvas, color: Color) -> np.ndarray:
    return np.nonzero(shows(canvas, color))[0]


def shows(canvas: Canvas, color: Color) -> np.ndarray:
    hits: np.ndarray = canvas.mask & (np.abs(canvas.albedo - np.array(color)).max(axis=2) < 0.02)
    return hits


def test_a_person_is_as_tall_as_its_body_and_stands_on_its_ground_point() -> None:
    rows, columns = np.nonzero(drawn(PERSON).mask)
    assert (rows.max() - rows.min()) / 130 == pytest.approx(1.75, abs=0.08)
    assert rows.max() == pytest.approx(244, abs=12)
    assert columns.mean() == pytest.approx(64, abs=4)


def test_parts_come_in_order_from_head_to_foot() -> None:
    canvas = drawn(PERSON)
    medians = [np.median(rows_of(canvas, color)) for color in (BLACK, RED, BLUE, WHITE)]
    assert medians == sorted(medians)
    shares = [shows(canvas, color).sum() / canvas.mask.sum() for color in (RED, BLUE)]
    assert min(shares) > 0.2


def test_the_face_is_seen_from_the_front_and_the_hair_from_behind() -> None:
    front, back = drawn(PERSON), drawn(PERSON, np.pi)
    head = slice(0, 45)
    assert shows(front, SKIN)[head].sum() > 2 * shows(back, SKIN)[head].sum()
    assert shows(back, BLACK)[head].sum() > 2 * shows(front, BLACK)[head].sum()


def test_a_walker_is_wider_from_the_side_than_from_the_front() -> None:
    walking = replace(STILL, phase=np.pi / 2, stride=0.5)
    widths = [np.ptp(np.nonzero(drawn(PERSON, yaw, walking).mask[150:])[1]) for yaw in (0.0, np.pi / 2)]
    assert widths[1] > 1.5 * widths[0]


def test_a_backpack_covers_the_back_and_only_its_straps_show_in_front() -> None:
    person = replace(PERSON, bag=Bag("backpack", GREEN, "left", 1.0))
    front, back = (drawn(person, yaw).albedo for yaw in (0.0, np.pi))
    green = [((albedo[..., 1] > 0.3) & (albedo[..., 0] < 0.05)).sum() for albedo in (front, back)]
    assert 0 < green[0] < 0.4 * green[1]


@pytest.mark.parametrize("kind", ["shoulder bag", "handbag"])
def test_bags_hang_on_their_side(kind: str) -> None:
    bags = [Bag("handbag" if kind == "handbag" else "shoulder bag", GREEN, side, 1.0) for side in ("left", "right")]
    columns = [np.nonzero(shows(drawn(replace(PERSON, bag=bag)), GREEN)[120:])[1].mean() for bag in bags]
    assert columns[0] > 64 > columns[1]  # the left side of who faces the viewer is to the right


def test_garments_cover_what_they_should() -> None:
    bare = drawn(replace(PERSON, lower=replace(PERSON.lower, kind="shorts", hem=1.6)))
    assert shows(bare, SKIN)[150:].sum() > 5 * shows(drawn(PERSON), SKIN)[150:].sum()
    dressed = replace(PERSON, upper=replace(PERSON.upper, kind="dress", hem=2.0))
    for yaw in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        dress = drawn(dressed, float(yaw), replace(STILL, phase=1.0, stride=0.45))
        assert not shows(dress, BLUE).any()
        thighs = shows(dress, SKIN)[125:165, 50:78]
        assert thighs.mean() < 0.12  # hands only


def test_a_coat_hides_the_thighs_of_a_walker_from_all_sides() -> None:
    upper = replace(PERSON.upper, kind="coat", hem=2.0, thickness=0.02)
    for yaw in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        coat = drawn(replace(PERSON, upper=upper), float(yaw), replace(STILL, phase=2.0, stride=0.45))
        assert rows_of(coat, BLUE).min() > 150


@pytest.mark.parametrize("hat", ["cap", "beanie", "brimmed"])
@pytest.mark.parametrize("cut", ["short", "bald", "bob", "long", "ponytail", "bun"])
def test_hats_sit_on_every_haircut(hat: str, cut: str) -> None:
    hair: Hair = replace(PERSON.hair, hat=hat, cut=cut)  # type: ignore[arg-type]
    canvas = drawn(replace(PERSON, hair=hair))
    assert shows(canvas, GREEN).sum() > 60
    top = np.nonzero(canvas.mask.any(axis=1))[0].min()
    assert shows(canvas, GREEN)[top : top + 2].sum() > 0


def test_long_hair_reaches_below_short_hair() -> None:
    ends = [
        rows_of(drawn(replace(PERSON, hair=replace(PERSON.hair, cut=cut)), np.pi), BLACK).max()
        for cut in ("short", "long")
    ]
    assert ends[1] > ends[0] + 15


def test_a_hood_and_a_scarf_show() -> None:
    plain = drawn(PERSON).mask.sum()
    assert drawn(replace(PERSON, upper=replace(PERSON.upper, kind="hoodie"))).mask.sum() > plain
    assert shows(drawn(replace(PERSON, scarf=GREEN)), GREEN).sum() > 80


def test_drawing_needs_no_randomness() -> None:
    first: Array = drawn(PERSON).albedo
    np.testing.assert_array_equal(first, drawn(PERSON).albedo)
