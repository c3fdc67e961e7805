from inspect import signature
from typing import Any

import pytest
from pydantic import ValidationError

from reidkit.backbones import BackboneConfig, create_backbone
from tests.backbones.golden_weights import TINY


def test_fields_are_the_arguments_of_create_backbone() -> None:
    assert set(BackboneConfig.model_fields) == set(signature(create_backbone).parameters)
    config = BackboneConfig.model_validate({"name": "vit_tiny_ics", "image_size": [32, 16], **TINY})
    model: Any = create_backbone(**config.model_dump())
    assert (model.feature_dim, model.image_size) == (32, (32, 16))


def test_every_field_is_documented() -> None:
    assert [name for name, field in BackboneConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0},
        {"drop_path": 1.0},
        {"drop_path": -0.1},
        {"image_size": [0, 128]},
        {"image_size": [256]},
        {"heads": 6},
    ],
)
def test_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BackboneConfig.model_validate(wrong)
