"""Every forward path on a pretended GPU: an operation on a tensor that was left on the CPU raises."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reidkit.backbones import (
    EmbeddingModel,
    create_backbone,
    embed_views,
    resize_position_embedding,
    source_statistics,
    split_domains,
)
from reidkit.backbones.synchronised import whole_batch_norm
from reidkit.clustering.candidates import search_device
from reidkit.clustering.parallel import open_resources
from reidkit.datasets import (
    AugmentationConfig,
    CropConfig,
    apply_augmentation,
    apply_crops,
    draw_augmentation,
    draw_crops,
    normalise,
)
from reidkit.inference import Embedder
from reidkit.loop import TrainedModel
from reidkit.memory import ClusterMemory, DinoLoss, batch_contrast, batch_hard_triplet, cluster_centroids
from reidkit.pretrain import DinoHead
from reidkit.runs import RunConfig
from tests.gpu.fake_device import CUDA, check, fake_cuda, move

SIZE = (64, 32)
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
CAMERAS = {"sie_cameras": 3}
COLOURS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
B, C, D = 8, 5, 32


def on_cuda(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=CUDA)


def labels() -> Tensor:
    return on_cuda(B, dtype=torch.int64)


def model(name: str, **settings: Any) -> EmbeddingModel:
    settings = ({} if name.startswith("resnet") else SMALL) | settings
    return EmbeddingModel(create_backbone(name, image_size=SIZE, **settings))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vit_tiny", {}),
        ("vit_tiny", CAMERAS),
        ("vit_tiny_ics", {"drop_path": 0.1}),
        ("vit_tiny_ics", CAMERAS),
        ("resnet10t", {}),
    ],
)
def test_backbone_and_neck(name: str, settings: dict[str, Any], training: bool) -> None:
    network = model(name, **settings).train(training)
    with fake_cuda():
        move(network)
        for features in network(on_cuda(B, 3, *SIZE), labels()):
            check(features, B, network.feature_dim)
        check(network.embed(on_cuda(B, 3, *SIZE)), B, network.feature_dim)


def test_domains() -> None:
    network = model("resnet18")
    split_domains(network)
    with fake_cuda():
        move(network)
        check(network(on_cuda(B, 3, *SIZE)).after_neck, B, 512)
        network.eval()
        with source_statistics(network):
            check(network.embed(on_cuda(B, 3, *SIZE)), B, 512)


def test_batch_normalisation_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[Tensor] = []
    monkeypatch.setattr("torch.distributed.all_reduce", sums.append)
    norm = nn.BatchNorm1d(D)
    with fake_cuda():
        move(norm)
        statistics: Any = norm.running_mean, norm.running_var, norm.weight, norm.bias
        check(whole_batch_norm(on_cuda(B, D), *statistics, momentum=0.1, eps=1e-5), B, D)
        assert {value.device for value in sums} == {CUDA}


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
def test_views_of_other_sizes(name: str) -> None:
    network = model(name)
    with fake_cuda():
        check(embed_views(move(network).backbone, on_cuda(B, 3, 32, 16)), B, D)


def test_resized_positions() -> None:
    with fake_cuda():
        check(resize_position_embedding(on_cuda(1, 9, D), (3, 2)), 1, 7, D)


@pytest.mark.parametrize("fill", ["noise", (0.5, 0.5, 0.5)])
def test_augmentation(fill: Any) -> None:
    strong = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "colour_cast": 0.1, "rotation": 10.0, "zoom": 0.1}
    for strength in (strong, {}):
        config = AugmentationConfig(flip=0.5, pad=4, erasing=1.0, erasing_fill=fill, **strength)
        with fake_cuda():
            pixels = on_cuda(B, 3, *SIZE, dtype=torch.uint8)
            drawn = draw_augmentation(B, SIZE, np.random.default_rng(0), config)
            check(apply_augmentation(pixels, drawn, config, **COLOURS), B, 3, *SIZE)
            check(normalise(pixels, **COLOURS), B, 3, *SIZE)


def test_crops() -> None:
    config = CropConfig(local_crops=3, grey=0.5, solarise=(0.5, 0.5), local_blur=0.5)
    with fake_cuda():
        pixels = on_cuda(B, 3, *SIZE, dtype=torch.uint8)
        drawn = draw_crops(B, SIZE, np.random.default_rng(0), config)
        whole, local = (apply_crops(pixels, views, **COLOURS) for views in drawn)
        check(whole, 2, B, 3, *SIZE)
        check(local, 3, B, 3, 32, 16)


@pytest.mark.parametrize("update", ["hard", "mean"])
def test_cluster_memory(update: Any) -> None:
    with fake_cuda():
        memory = ClusterMemory(on_cuda(C, D), update=update)
        check(memory(on_cuda(B, D), labels()))
        memory.update(on_cuda(B, D), labels())
        check(memory.centroids, C, D)
        check(cluster_centroids(on_cuda(B, D), labels()), 2, D)


@pytest.mark.parametrize("margin", [None, 0.3])
def test_losses_within_a_batch(margin: float | None) -> None:
    with fake_cuda():
        check(batch_hard_triplet(on_cuda(B, D), labels(), margin=margin))
        check(batch_contrast(on_cuda(B, D), labels()))


def test_self_distillation() -> None:
    head, loss = DinoHead(D, 20, hidden=16, bottleneck=8), DinoLoss(20)
    with fake_cuda():
        move(head)
        move(loss)
        student, teacher = head(on_cuda(5 * B, D)), head(on_cuda(2 * B, D))
        check(loss(student, teacher, teacher_temperature=0.05))
        loss.update(teacher)
        check(loss.centre, 20)


@pytest.mark.parametrize("groups", [None, np.arange(40, dtype=np.int32) % 3])
def test_search_of_neighbours(groups: Any) -> None:
    points = np.eye(40, D, dtype=np.float32)
    with open_resources(1, device="cuda") as resources, fake_cuda():
        found = search_device(points, 6, resources, groups=groups)
    assert found.indices.shape == found.scores.shape == (40, 6)


@pytest.mark.parametrize("flip", [True, False])
def test_embedder(monkeypatch: pytest.MonkeyPatch, flip: bool) -> None:
    network = model("vit_tiny_ics", **CAMERAS)
    fabric = SimpleNamespace(device=CUDA, autocast=nullcontext, to_device=move)
    monkeypatch.setattr("reidkit.inference.embedder.create_fabric", lambda *_: fabric)
    config = RunConfig.model_validate({"evaluation": {"flip": flip}})
    with fake_cuda(), patch("torch.cuda.is_bf16_supported", return_value=True):
        embedder = Embedder(TrainedModel(network, config, Path("best.pt")), device="cuda")
        features = embedder.embed(np.zeros((3, *SIZE, 3), np.uint8), cameras=[0, 1, -1])
    assert features.shape == (3, D)
