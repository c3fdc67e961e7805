"""Every forward path on a pretended GPU: a tensor that was left on the CPU raises."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

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
from reidkit.datasets import AugmentationConfig, CropConfig, augment, multi_crop, normalise
from reidkit.inference import Embedder
from reidkit.loop import TrainedModel
from reidkit.memory import ClusterMemory, DinoLoss, batch_contrast, batch_hard_triplet, cluster_centroids
from reidkit.pretrain import DinoHead
from reidkit.runs import RunConfig
from tests.gpu.fake_device import CUDA, fake_cuda, move, on_cuda

SIZE = (64, 32)
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
CAMERAS = {"sie_cameras": 3}
COLOURS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
B, D = 8, 32


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_cuda(monkeypatch):
        yield


def images(batch: int = B, size: tuple[int, int] = SIZE) -> Tensor:
    return on_cuda(batch, 3, *size)


def labels() -> Tensor:
    return on_cuda(B, dtype=torch.int64)


def pixels() -> Tensor:
    return on_cuda(B, 3, *SIZE, dtype=torch.uint8)


def check(value: Tensor, *shape: int) -> None:
    assert value.device == CUDA
    assert value.shape == shape


def model(name: str, **settings: Any) -> Any:
    """A model that was created on the CPU, as ours are, and moved."""
    with nullcontext() if name != "fake" else FakeTensorMode():
        settings = ({} if "resnet" in name else SMALL) | settings
        return move(EmbeddingModel(create_backbone(name, image_size=SIZE, **settings)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vit_tiny", {}),
        ("vit_tiny", CAMERAS),
        ("vit_tiny_ics", {"drop_path": 0.1}),
        ("vit_tiny_ics", CAMERAS),
        ("resnet10t", {}),
        ("resnet18", {}),
    ],
)
def test_backbone_and_neck(name: str, settings: dict[str, Any], training: bool) -> None:
    network = model(name, **settings).train(training)
    before, after = network(images(), labels())
    check(before, B, network.feature_dim)
    check(after, B, network.feature_dim)
    check(network.embed(images()), B, network.feature_dim)


def test_domains() -> None:
    network = model("resnet18")
    split_domains(network)
    check(network(images()).after_neck, B, 512)
    network.eval()
    with source_statistics(network):
        check(network.embed(images()), B, 512)


def test_batch_normalisation_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: check(tensor, *tensor.shape))
    norm = move(nn.BatchNorm1d(D))
    statistics: Any = norm.running_mean, norm.running_var, norm.weight, norm.bias
    check(whole_batch_norm(on_cuda(B, D), *statistics, momentum=0.1, eps=1e-5), B, D)


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
def test_views_of_other_sizes(name: str) -> None:
    check(embed_views(model(name).backbone, images(size=(32, 16))), B, D)


def test_resized_positions() -> None:
    check(resize_position_embedding(on_cuda(1, 9, D), (3, 2)), 1, 7, D)
