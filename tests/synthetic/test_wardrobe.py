from collections import Counter
from dataclasses import fields

import pytest

from reidkit.synthetic.config import Style
from reidkit.synthetic.wardrobe import TWIN_EVERY, Person, person_of


def differences(first: Person, second: Person) -> set[str]:
    return {field.name for field in fields(Person) if getattr(first, field.name) != getattr(second, field.name)}


def test_a_person_follows_from_seed_style_and_identity() -> None:
    person = person_of(0, "summer", 5)
    person_of.cache_clear()
    assert person_of(0, "summer", 5) == person
    for other in (person_of(1, "summer", 5), person_of(0, "winter", 5), person_of(0, "summer", 6)):
        assert len(differences(person, other)) > 4


@pytest.mark.parametrize("style", ["summer", "winter"])
def test_twins_differ_in_two_details(style: Style) -> None:
    for identity in range(TWIN_EVERY, 40 * TWIN_EVERY, TWIN_EVERY):
        changed = differences(person_of(0, style, identity - 1), person_of(0, style, identity)) - {"body"}
        assert len(changed) == 2
        assert changed <= {"upper", "lower", "bag", "shoes", "hair"}
        assert changed & {"upper", "lower", "bag"}


def test_one_in_twenty_is_a_twin_and_nobody_else_is() -> None:
    alike = [
        identity
        for identity in range(2, 200)
        if len(differences(person_of(0, "summer", identity - 1), person_of(0, "summer", identity))) <= 3
    ]
    assert alike == list(range(TWIN_EVERY, 200, TWIN_EVERY))


def test_summer_and_winter_dress_differently() -> None:
    summer = [person_of(0, "summer", identity) for identity in range(300)]
    winter = [person_of(0, "winter", identity) for identity in range(300)]
    kinds = Counter(person.upper.kind for person in winter)
    assert set(kinds) == {"coat", "jacket", "hoodie"}
    assert {"t-shirt", "shirt", "dress"} <= {person.upper.kind for person in summer}
    assert any(person.scarf for person in winter)
    assert not any(person.scarf for person in summer)
    assert sum(person.hair.hat == "beanie" for person in winter) > 60


def test_everything_in_the_wardrobe_is_worn() -> None:
    people = [person_of(0, "summer", identity) for identity in range(600)]
    assert {person.hair.cut for person in people} == {"short", "bald", "bob", "long", "ponytail", "bun"}
    assert {person.lower.kind for person in people} == {"trousers", "leggings", "shorts", "skirt"}
    assert {person.bag.kind for person in people} == {"none", "backpack", "shoulder bag", "handbag"}
    assert len({person.upper.pattern for person in people}) == 8
    assert {person.upper.opened for person in people} == {True, False}
