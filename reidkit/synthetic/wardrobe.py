"""Build and clothes of persons: all of an identity that does not change from image to image."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from reidkit.synthetic.config import Style
from reidkit.synthetic.dyes import Garment, black_or_white, contrasting, dye, hair_color, skin_color, weighted
from reidkit.synthetic.pose import Proportions
from reidkit.synthetic.randomness import stream
from reidkit.synthetic.raster import Color

__all__ = ["TWIN_EVERY", "Bag", "Hair", "Lower", "Person", "Upper", "person_of"]

TWIN_EVERY = 20
"""Every twentieth identity is dressed like the one before it, but for two details."""

Pattern = Literal["plain", "stripes", "pinstripes", "checks", "dots", "logo", "two-tone", "raglan"]
UpperKind = Literal["t-shirt", "shirt", "jacket", "hoodie", "coat", "dress"]
LowerKind = Literal["trousers", "leggings", "shorts", "skirt"]
Cut = Literal["short", "bald", "bob", "long", "ponytail", "bun"]
HatKind = Literal["none", "cap", "beanie", "brimmed"]
BagKind = Literal["none", "backpack", "shoulder bag", "handbag"]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Hair:
    """Hair, beard, hat and glasses."""

    cut: Cut
    color: Color
    beard: bool
    hat: HatKind
    hat_color: Color
    glasses: bool


@dataclass(frozen=True)
class Upper:
    """Upper garment. `hem` is where it ends: 0 at the waist, 1 at the crotch, 2 at the knee."""

    kind: UpperKind
    color: Color
    accent: Color
    inner: Color
    pattern: Pattern
    opened: bool
    long_sleeves: bool
    hem: float
    thickness: float


@dataclass(frozen=True)
class Lower:
    """Lower garment. `hem` is where it ends, as `Upper.hem`, with 3 at the ankle."""

    kind: LowerKind
    color: Color
    stripe: Color | None
    hem: float
    looseness: float


@dataclass(frozen=True)
class Bag:
    """A bag and the side on which it is carried."""

    kind: BagKind
    color: Color
    side: Side
    size: float


@dataclass(frozen=True)
class Person:
    """An identity. Colours are linear RGB, 0 to 1."""

    body: Proportions
    skin: Color
    hair: Hair
    upper: Upper
    lower: Lower
    bag: Bag
    shoes: Color
    sole: Color
    socks: Color | None
    scarf: Color | None
    gait: float


@lru_cache(maxsize=64)
def person_of(seed: int, style: Style, identity: int) -> Person:
    """The person behind an identity number, >= 0; every `TWIN_EVERY`-th is the twin of its predecessor."""
    rng = stream("wardrobe", seed, style, identity)
    if identity and identity % TWIN_EVERY == 0:
        return _twin(person_of(seed, style, identity - 1), rng, style)
    return _dress(rng, style)


def _dress(rng: np.random.Generator, style: Style) -> Person:
    woman = bool(rng.random() < 0.48)
    body = Proportions(
        height=float(rng.normal(1.66 if woman else 1.77, 0.06)),
        girth=float(np.clip(rng.normal(1.0, 0.10), 0.82, 1.28)),
        shoulders=float(rng.normal(0.098 if woman else 0.110, 0.004)),
        hips=float(rng.normal(0.102 if woman else 0.096, 0.004)),
    )
    upper = _upper(rng, style, woman)
    return Person(
        body=body,
        skin=skin_color(rng),
        hair=_hair(rng, style, woman),
        upper=upper,
        lower=_lower(rng, style, woman),
        bag=_bag(rng, woman),
        shoes=dye(rng, "shoes"),
        sole=black_or_white(rng, 0.5),
        socks=black_or_white(rng, 0.6) if rng.random() < 0.5 else None,
        scarf=dye(rng, "upper") if style == "winter" and rng.random() < 0.4 else None,
        gait=float(rng.uniform(0.32, 0.50)),
    )


def _hair(rng: np.random.Generator, style: Style, woman: bool) -> Hair:
    cuts: dict[Cut, float] = {"short": 8, "bald": 1.3, "bob": 0.5, "ponytail": 0.3}
    if woman:
        cuts = {"long": 5, "ponytail": 3, "bob": 3, "bun": 1.5, "short": 1}
    hats: dict[HatKind, float] = {"none": 8, "cap": 1.6, "brimmed": 0.4}
    if style == "winter":
        hats = {"none": 5, "beanie": 4, "cap": 0.7}
    return Hair(
        cut=weighted(rng, cuts),
        color=hair_color(rng),
        beard=bool(not woman and rng.random() < 0.25),
        hat=weighted(rng, hats),
        hat_color=dye(rng, "upper"),
        glasses=bool(rng.random() < 0.15),
    )


def _upper(rng: np.random.Generator, style: Style, woman: bool) -> Upper:
    kinds: dict[UpperKind, float] = {"t-shirt": 9, "shirt": 4, "jacket": 3, "hoodie": 2}
    if woman:
        kinds["dress"] = 3
    if style == "winter":
        kinds = {"coat": 7, "jacket": 7, "hoodie": 2}
    kind = weighted(rng, kinds)
    dyes: Garment = "coat" if style == "winter" or kind in ("coat", "jacket") else "upper"
    patterns: dict[Pattern, float] = {"plain": 4, "stripes": 2, "checks": 1.5, "logo": 2, "two-tone": 2, "dots": 1}
    patterns |= {"raglan": 1, "pinstripes": 1}
    if kind in ("coat", "jacket"):
        patterns = {"plain": 7, "checks": 0.8, "logo": 1, "raglan": 1, "two-tone": 2 if kind == "jacket" else 0}
    color = dye(rng, dyes)
    long_sleeves: dict[UpperKind, float] = {"t-shirt": 0.08, "shirt": 0.6, "dress": 0.35}
    hems: dict[UpperKind, tuple[float, float]] = {"coat": (1.5, 2.3), "dress": (1.6, 2.4), "jacket": (0.75, 1.1)}
    low, high = hems.get(kind, (0.6, 1.0))
    thickness: dict[UpperKind, float] = {"coat": 0.022, "jacket": 0.018, "hoodie": 0.014}
    return Upper(
        kind=kind,
        color=color,
        accent=contrasting(rng, "upper", color),
        inner=contrasting(rng, "upper", color),
        pattern=weighted(rng, patterns),
        opened=bool(kind in ("jacket", "coat", "shirt") and rng.random() < 0.2),
        long_sleeves=bool(rng.random() < long_sleeves.get(kind, 1.0)),
        hem=float(rng.uniform(low, high)),
        thickness=thickness.get(kind, 0.007),
    )


def _lower(rng: np.random.Generator, style: Style, woman: bool) -> Lower:
    kinds: dict[LowerKind, float] = {"trousers": 8, "shorts": 5}
    if woman:
        kinds = {"trousers": 5, "leggings": 3, "shorts": 3, "skirt": 4}
    if style == "winter":
        kinds = {"trousers": 8, "leggings": 3 if woman else 0, "skirt": 1 if woman else 0}
    kind = weighted(rng, kinds)
    hems: dict[LowerKind, tuple[float, float]] = {"shorts": (1.45, 2.0), "skirt": (1.5, 2.7), "leggings": (2.7, 3.0)}
    low, high = hems.get(kind, (3.0, 3.0))
    color = dye(rng, "lower")
    striped = kind in ("trousers", "shorts") and rng.random() < 0.12
    return Lower(
        kind=kind,
        color=color,
        stripe=contrasting(rng, "shoes", color) if striped else None,
        hem=float(rng.uniform(low, high)),
        looseness=float(rng.uniform(0.0, 0.016)) if kind != "leggings" else 0.0,
    )


def _bag(rng: np.random.Generator, woman: bool) -> Bag:
    kinds: dict[BagKind, float] = {"none": 10, "backpack": 4, "shoulder bag": 4, "handbag": 4 if woman else 1}
    return Bag(
        kind=weighted(rng, kinds),
        color=dye(rng, "bag"),
        side="left" if rng.random() < 0.5 else "right",
        size=float(rng.uniform(0.8, 1.1)),
    )


def _twin(person: Person, rng: np.random.Generator, style: Style) -> Person:
    """The same clothes but for two details, of which one shows from everywhere."""
    large, small = ("upper", "lower", "bag"), ("shoes", "hat", "bag")
    first = large[int(rng.integers(3))]
    second = small[int(rng.integers(2 if first == "bag" else 3))]
    for detail in (first, second):
        person = _change(person, detail, rng, style)
    return replace(person, body=replace(person.body, height=float(rng.normal(1.72, 0.07))))


def _change(person: Person, detail: str, rng: np.random.Generator, style: Style) -> Person:
    upper, lower, hair, bag = person.upper, person.lower, person.hair, person.bag
    if detail == "bag":
        kind: BagKind = "none" if bag.kind == "backpack" else "backpack"
        return replace(person, bag=replace(bag, kind=kind, color=contrasting(rng, "bag", upper.color)))
    if detail == "upper":
        pattern: Pattern = "two-tone" if upper.pattern != "two-tone" else "plain"
        return replace(person, upper=replace(upper, pattern=pattern, accent=contrasting(rng, "upper", upper.color)))
    if detail == "lower":
        return replace(person, lower=replace(lower, color=contrasting(rng, "lower", lower.color)))
    if detail == "shoes":
        return replace(person, shoes=contrasting(rng, "shoes", person.shoes))
    hat: HatKind = "none" if hair.hat != "none" else ("beanie" if style == "winter" else "cap")
    return replace(person, hair=replace(hair, hat=hat, hat_color=contrasting(rng, "upper", hair.color)))
