"""One training step of every mode on the device `meta`, backward pass and optimiser included.

An operation on a tensor that was left on the CPU raises (those in place do not; `test_fake_cuda.py` finds them). The
host's few reads (loss, norm of the gradient, largest label) are answered by `host_reads`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.loop import (
    Epoch,
    ImageSet,
    Progress,
    Stage,
    Trainer,
    build_model,
    identity_stage,
    train_epoch,
)
from reidkit.loop.stages import StagePlan
from reidkit.pretrain import pretrain_stage
from reidkit.uda.training import uda_stages
from reidkit.usl.training import usl_stages
from tests.gpu.fake_device import host_reads
from tests.tiny import tiny_config

META = torch.device("meta")
IMAGES, IDENTITIES = 32, 8
ONE_STEP = {"epochs": 3, "iterations": 1}
PATCHES = {"patch_size": 8}
CAMERAS = {"sie_cameras": 6}
RESNET = {"name": "resnet10t", "embed_dim": None, "depth": None, "num_heads": None}


class AnyDevice(CPUAccelerator):
    """Takes the device `meta`."""

    def setup_device(self, device: torch.device) -> None:
        pass


def images() -> ImageSet:
    """Eight identities, four images each, from three cameras."""
    numbers = np.arange(IMAGES)
    paths = tuple(Path(f"{number}.png") for number in numbers)
    return ImageSet(Split(paths, numbers % IDENTITIES, numbers % 3), np.zeros((IMAGES, 3, 32, 16), np.uint8))


def extracted(trainer: Trainer, images: ImageSet, rows: slice = slice(None)) -> NDArray[np.float32]:
    """Features whose clusters are the identities, in place of those that have no numbers."""
    shape = (len(images.split), trainer.model.feature_dim)
    features = np.random.default_rng(0).normal(0, 0.01, shape).astype(np.float32)
    features[np.arange(len(features)), images.split.identities] += 1
    unit: NDArray[np.float32] = features[rows] / np.linalg.norm(features[rows], axis=1, keepdims=True)
    return unit


def usl(trainer: Trainer) -> list[Stage]:
    return usl_stages(images(), images(), trainer)


def uda(trainer: Trainer) -> list[Stage]:
    return uda_stages(images(), images(), trainer)


def supervised(trainer: Trainer) -> list[Stage]:
    return [identity_stage(images(), trainer, last_epoch=3)]


def pretrain(trainer: Trainer) -> list[Stage]:
    return [pretrain_stage(images(), trainer, build_model(trainer.config.backbone, 1).to(META))]


MODES: dict[str, tuple[Callable[[Trainer], list[Stage]], int, dict[str, Any]]] = {
    "usl": (usl, 1, {"backbone": CAMERAS}),
    "usl, mean update": (usl, 1, {"memory": {"update": "mean"}}),
    "usl, resnet": (usl, 1, {"backbone": RESNET}),
    "usl, warm-up in the batch": (usl, 1, {"warmup": {"epochs": 1}}),
    "usl, warm-up on a source": (usl, 1, {"warmup": {"epochs": 1, "source": "market"}}),
    "uda, source": (uda, 1, {"supervised": {"epochs": 1}}),
    "uda, target": (uda, 2, {"supervised": {"epochs": 1}}),
    "uda, joint": (uda, 2, {"supervised": {"epochs": 1}, "uda": {"strategy": "joint"}}),
    "supervised": (supervised, 1, {}),
    "supervised, centroids": (supervised, 1, {"supervised": {"criterion": "centroids", "margin": 0.3}}),
    "pretrain": (pretrain, 1, {"backbone": PATCHES, "pretrain": {"parts": 2, "frozen_epochs": 0}}),
    "pretrain, neck": (pretrain, 1, {"backbone": PATCHES, "pretrain": {"neck": True, "first_centre": "batch"}}),
}
"""Stages, the epoch to train, and settings."""

SETTINGS: dict[str, Any] = {
    "training": ONE_STEP,
    "clustering": {"device": "cpu", "eps": 0.5, "k1": 8, "k2": 2, "min_samples": 2},
    "data": {"source": "market", "target": "msmt17"},
    "pretrain": {"outputs": 20, "hidden": 16, "bottleneck": 8, "iterations": 1},
    "supervised": {"iterations": 1, "batch_size": 16, "instances": 4},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_step(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    create, number, settings = MODES[mode]
    merged = {name: SETTINGS.get(name, {}) | settings.get(name, {}) for name in SETTINGS | settings}
    config = tiny_config("msmt17", **merged)
    monkeypatch.setattr(Trainer, "extract", extracted)
    fabric = Fabric(strategy=SingleDeviceStrategy(META, AnyDevice()), precision="32-true")
    with host_reads():
        trainer = Trainer(fabric, build_model(config.backbone, 0), config, Progress())
        plan = StagePlan(create(trainer), config.training.epochs)
        trainer.add_heads(stage.head for stage in plan.stages if stage.head is not None)
        plan.set_up(1, trainer, prepare=False)
        epoch = Epoch(number, plan.enter(number, trainer))
        features = epoch.extract(trainer) if epoch.stage.needs_features else None
        epoch.label(features)
        epoch.create_criterion(features)
        train_epoch(trainer, epoch)
    assert (epoch.progress.steps, epoch.progress.skipped) == (1, 0)
    moments = [moment for state in trainer.optimizer.state.values() for name, moment in state.items() if name != "step"]
    assert moments
    assert {tensor.device for tensor in [*trainer.model.state_dict().values(), *moments]} == {META}
