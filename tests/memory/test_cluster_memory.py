from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.errors import ConfigError, TrainingError
from reidkit.memory import ClusterMemory, MemoryConfig, cluster_centroids
from reidkit.memory.cluster_memory import Update
from tests import naive


@pytest.mark.parametrize("update", ["hard", "mean"])
def test_golden_loss_gradient_and_memory(golden: Callable[[str], dict[str, Any]], update: Update) -> None:
    data = golden(f"cluster_memory_{update}_a")
    memory = ClusterMemory(
        torch.from_numpy(data["initial"]),
        temperature=float(data["temperature"]),
        momentum=float(data["momentum"]),
        update=update,
    )
    for step in range(3):
        features = torch.from_numpy(data[f"x_{step}"]).requires_grad_()
        labels = torch.from_numpy(data[f"t_{step}"])
        loss = memory(features, labels)
        (gradient,) = torch.autograd.grad(loss, features)
        memory.update(features, labels)
        assert loss.item() == pytest.approx(float(data[f"loss_{step}"]), abs=1e-5)
        np.testing.assert_allclose(gradient.numpy(), data[f"grad_{step}"], atol=1e-5)
        np.testing.assert_allclose(memory.centroids.numpy(), data[f"features_{step}"], atol=1e-5)


@pytest.mark.parametrize("update", ["hard", "mean"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_twin(update: Update, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((7, 5)).astype(np.float32)
    features = rng.standard_normal((24, 5)).astype(np.float32)
    features[8] = features[3]  # ties among the hardest
    labels = rng.integers(0, 7, 24)
    labels[8] = labels[3]
    memory = ClusterMemory(torch.from_numpy(centroids), temperature=0.1, momentum=0.3, update=update)
    loss = memory(torch.from_numpy(features), torch.from_numpy(labels))
    memory.update(torch.from_numpy(features), torch.from_numpy(labels))
    expected_loss, expected_memory = naive.cluster_memory_step(
        centroids, features, labels, temperature=0.1, momentum=0.3, update=update
    )
    assert loss.item() == pytest.approx(expected_loss, abs=1e-5)
    np.testing.assert_allclose(memory.centroids.numpy(), expected_memory, atol=1e-5)


def test_the_loss_leaves_the_memory_alone() -> None:
    memory = ClusterMemory(torch.eye(4))
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    memory(features, torch.tensor([0, 1, 2, 3, 0, 1])).backward()
    assert torch.equal(memory.centroids, torch.eye(4))
    assert features.grad is not None
    assert not memory.centroids.requires_grad


def test_absent_clusters_stay_and_all_rows_stay_unit_vectors() -> None:
    generator = torch.Generator().manual_seed(1)
    memory = ClusterMemory(torch.randn(5, 3, generator=generator))
    before = memory.centroids.clone()
    memory.update(torch.randn(8, 3, generator=generator), torch.tensor([0, 0, 0, 2, 2, 2, 2, 2]))
    assert torch.equal(memory.centroids[[1, 3, 4]], before[[1, 3, 4]])
    assert not torch.equal(memory.centroids[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(memory.centroids.norm(dim=1), torch.ones(5))


def test_low_precision_surroundings_do_not_touch_the_loss() -> None:
    generator = torch.Generator().manual_seed(2)
    memory = ClusterMemory(torch.randn(5, 16, generator=generator))
    features, labels = torch.randn(8, 16, generator=generator), torch.arange(8) % 5
    plain = memory(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(memory(features, labels), plain)


def test_centroids_are_normalised_means_without_noise() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    centroids = cluster_centroids(features, torch.tensor([0, 0, 1, -1]))
    torch.testing.assert_close(centroids, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_no_cluster_is_a_clear_error() -> None:
    with pytest.raises(TrainingError, match="all 3 labels are noise"):
        cluster_centroids(torch.eye(3), torch.full((3,), -1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"update": "soft"}, "update='soft'; choose one of hard, mean"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClusterMemory(torch.eye(3), **arguments)


def test_the_shape_of_centroids_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"shape \(3,\)"):
        ClusterMemory(torch.ones(3))


def test_the_defaults_are_the_papers() -> None:
    assert MemoryConfig() == MemoryConfig(temperature=0.05, momentum=0.2, update="hard")
