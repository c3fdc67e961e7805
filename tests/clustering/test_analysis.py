from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from reidkit.clustering import (
    EPS_TRIALS,
    ClusteringConfig,
    build_graph,
    cluster_graph,
    create_clusterer,
    dbscan,
    jaccard_graph,
)
from tests.clustering.conftest import Clustered


@pytest.mark.parametrize(
    "values",
    [
        {"eps": 0.5, "min_samples": 3, "k1": 12, "k2": 4},
        {"method": "hdbscan", "min_cluster_size": 5, "min_samples": 2, "threads": 1},
    ],
)
def test_steps_give_the_labels_of_the_estimator(values: dict[str, Any], clustered: Clustered) -> None:
    config, features = ClusteringConfig(**values), clustered(300)
    steps = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        steps.append(name)
        yield

    graph = build_graph(features, config, stage=stage)
    expected = create_clusterer(config).fit(features)
    np.testing.assert_array_equal(cluster_graph(graph, config), expected.labels_)
    np.testing.assert_array_equal(graph.distances.data, expected.graph_.data)
    assert expected.labels_.max() > 5
    assert steps == ["neighbours", "graph"]


@pytest.mark.parametrize(("eps", "reach"), [(0.3, EPS_TRIALS[-1]), (0.9, 0.9)])
def test_a_graph_for_a_suggestion_reaches_to_the_largest_trial(eps: float, reach: float, clustered: Clustered) -> None:
    features, config = clustered(200), ClusteringConfig(eps=eps)
    graph = build_graph(features, config, suggest=True)
    assert graph.max_distance == reach
    np.testing.assert_array_equal(graph.distances.data, jaccard_graph(features, max_distance=reach).data)
    assert build_graph(features, config).max_distance == eps


def test_cameras_replace_the_neighbours_of_all_images(clustered: Clustered) -> None:
    features, cameras = clustered(200), np.arange(200) % 3
    found = cluster_graph(build_graph(features, ClusteringConfig(), cameras=cameras), ClusteringConfig())
    expected = dbscan(jaccard_graph(features, cameras=cameras, max_distance=0.6), eps=0.6, min_samples=4)[0]
    np.testing.assert_array_equal(found, expected)
