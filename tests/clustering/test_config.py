from typing import Any

import pytest
from pydantic import ValidationError

from reidkit.clustering import ClusteringConfig, JaccardDBSCAN


def test_fields_are_the_estimator_s_parameters_and_defaults() -> None:
    settings = ClusteringConfig().model_dump()
    assert JaccardDBSCAN(**settings).get_params() == JaccardDBSCAN().get_params()


def test_every_field_is_documented() -> None:
    assert all(field.description for field in ClusteringConfig.model_fields.values())


@pytest.mark.parametrize(
    "values",
    [
        {"eps": 0},
        {"eps": 1.0},
        {"min_samples": 0},
        {"k1": 5},
        {"k1": 0, "k2": 0},
        {"backend": "annoy"},
        {"threads": 0},
        {"epsilon": 0.5},
    ],
)
def test_values_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClusteringConfig(**values)
