from typing import Any

import pytest
from pydantic import ValidationError

from reidkit.clustering import ClusteringConfig, JaccardDBSCAN, JaccardHDBSCAN, create_clusterer


def test_defaults_are_the_estimators() -> None:
    dbscan, hdbscan = (create_clusterer(ClusteringConfig(method=method)) for method in ("dbscan", "hdbscan"))
    assert isinstance(dbscan, JaccardDBSCAN)
    assert isinstance(hdbscan, JaccardHDBSCAN)
    assert dbscan.get_params() == JaccardDBSCAN().get_params()
    assert hdbscan.get_params() == JaccardHDBSCAN().get_params()


def test_the_estimators_take_every_field() -> None:
    values: dict[str, Any] = {
        "eps": 0.5,
        "min_cluster_size": 7,
        "min_samples": 3,
        "k1": 20,
        "k2": 4,
        "backend": "torch",
        "device": "cuda:1",
        "threads": 2,
    }
    assert {"method", *values} == set(ClusteringConfig.model_fields)
    for method, ignored in (("dbscan", "min_cluster_size"), ("hdbscan", "eps")):
        taken = create_clusterer(ClusteringConfig(method=method, **values)).get_params()
        expected = {name: value for name, value in values.items() if name != ignored}
        assert {name: value for name, value in taken.items() if name in values} == expected


@pytest.mark.parametrize("method", ["dbscan", "hdbscan"])
def test_the_device_is_the_runs_unless_one_is_configured(method: Any) -> None:
    group = object()
    taken = create_clusterer(ClusteringConfig(method=method), device="cuda:3", group=group).get_params()
    assert (taken["device"], taken["group"]) == ("cuda:3", group)
    chosen = create_clusterer(ClusteringConfig(method=method, device="cpu"), device="cuda:3").get_params()
    assert (chosen["device"], chosen["group"]) == ("cpu", None)


def test_every_field_is_documented() -> None:
    assert all(field.description for field in ClusteringConfig.model_fields.values())


@pytest.mark.parametrize(
    "values",
    [
        {"eps": 0},
        {"eps": 1.0},
        {"method": "kmeans"},
        {"min_cluster_size": 1},
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
