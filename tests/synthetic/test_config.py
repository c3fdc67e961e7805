import pytest
from pydantic import ValidationError

from reidkit.synthetic import SyntheticConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"cameras": 1},
        {"train_identities": 1},
        {"test_identities": 5000},
        {"images_per_camera": 0},
        {"distractors": -1},
        {"height": 31},
        {"width": 513},
        {"seed": -1},
        {"style": "autumn"},
        {"colour": "red"},
    ],
)
def test_values_out_of_bounds_are_refused(settings: dict[str, int | str]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        SyntheticConfig.model_validate(settings)


def test_every_field_is_documented() -> None:
    undocumented = [name for name, field in SyntheticConfig.model_fields.items() if not field.description]
    assert not undocumented


def test_identity_numbers_fit_four_digits() -> None:
    config = SyntheticConfig(train_identities=5000, test_identities=4999)
    assert config.train_identities + config.test_identities == 9999
