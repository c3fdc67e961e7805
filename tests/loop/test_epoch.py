"""Steps that are left out, and gradients in 16 bits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit.datasets import Split
from reidkit.distributed import ALONE
from reidkit.loop import (
    Augment,
    Epoch,
    EpochLabels,
    EpochProgress,
    Features,
    ImageSet,
    Learning,
    Progress,
    Stage,
    StepHook,
    create_fabric,
    train_epoch,
)
from reidkit.loop.epoch import NotFiniteError
from reidkit.runs import resolve_config


class Network(nn.Module):
    """Eight pixels to two outputs, with statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(8)
        self.linear = nn.Linear(8, 2)

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        outputs: Tensor = self.linear(self.norm(pixels))
        return outputs


class Bad:
    """A criterion that is wrong in chosen steps, counted from 1."""

    def __init__(self, losses: tuple[int, ...] = (), gradients: tuple[int, ...] = ()) -> None:
        self._losses, self._gradients = losses, gradients
        self._step, self.updates = 0, 0

    def __call__(self, outputs: Tensor, labels: Tensor, /) -> Tensor:
        self._step += 1
        loss = nn.functional.cross_entropy(outputs.float(), labels)
        if self._step in self._gradients:
            loss = loss + torch.sqrt(outputs.float().sum() * 0)  # 0, with a gradient of infinity times 0
        return loss * torch.nan if self._step in self._losses else loss

    def update(self, outputs: Any, labels: Tensor, /) -> None:
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Clipping(StepHook):
    """Sees the gradients where a hook would clip them."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.norms: list[float] = []

    def before_update(self) -> None:
        gradients = [weight.grad for weight in self._network.parameters() if weight.grad is not None]
        self.norms.append(nn.utils.get_total_norm(gradients).item())


@dataclass(frozen=True, kw_only=True)
class Pixels(Stage):
    """Trains on the pixels themselves, in `parts` parts."""

    loss: Bad
    trained: nn.Module

    @property
    def network(self) -> nn.Module | None:
        return self.trained if self.learning.accumulation_steps > 1 else None  # a loss that is a mean over images

    def label(self, features: Features | None, number: int) -> EpochLabels:
        return EpochLabels(np.arange(12) % 2, "identities")

    def criterion(self, features: Features | None, labels: EpochLabels, state: Mapping[str, Any] | None = None) -> Bad:
        return self.loss

    def batches(self, labels: EpochLabels, number: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        return iter(np.random.default_rng(1).integers(0, 12, (self.learning.iterations, 6)))

    def augment(self, count: int, rng: np.random.Generator) -> Augment:
        return lambda pixels, rows: pixels.flatten(1).float() / 255


def images() -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 1, 2, 4), dtype=np.uint8)
    return ImageSet(
        Split(tuple(Path(f"{row}.png") for row in range(12)), np.arange(12) % 2, np.zeros(12, np.int64)), pixels
    )


def train(
    criterion: Bad, *, limit: int = 9, steps: int = 4, parts: int = 1, fabric: Fabric | None = None, clips: bool = False
) -> tuple[EpochProgress, Network, Clipping]:
    fabric = fabric or create_fabric("cpu", "32")
    bare = Network()
    config = resolve_config([{"training": {"skip_limit": limit}}])
    learning = replace(Learning.of(config), iterations=steps, accumulation_steps=parts)
    stage = Pixels(last_epoch=1, images=images(), learning=learning, loss=criterion, trained=bare)
    trainer: Any = SimpleNamespace(fabric=fabric, group=ALONE, config=config, progress=Progress(), buffers=bare.buffers)
    trainer.network, trainer.optimizer = fabric.setup(bare, torch.optim.AdamW(bare.parameters(), lr=0.1))
    epoch, clipping = Epoch(1, stage), Clipping(bare)
    epoch.label(None)
    epoch.create_criterion(None)
    if clips:
        epoch.hook = clipping
    train_epoch(trainer, epoch)
    return epoch.progress, bare, clipping


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("wrong", ["losses", "gradients"])
def test_a_step_without_a_finite_loss_or_gradient_changes_nothing(wrong: str, parts: int) -> None:
    calls = (4 * parts,)  # the last step; of its parts the last
    good = train(Bad(), steps=3, parts=parts)
    criterion = Bad(**{wrong: calls})
    result, network, _ = train(criterion, parts=parts)
    assert (result.steps, result.skipped, result.images) == (3, 1, 24)
    assert result.loss == good[0].loss
    assert criterion.updates == 3
    assert same(network, good[1])


@pytest.mark.parametrize(
    ("criterion", "told"),
    [
        (
            Bad(losses=(2, 3)),
            r"the loss is nan at step 3, after 1 skipped steps in this epoch \(training.skip_limit=1\)",
        ),
        (Bad(gradients=(2, 3)), r"the gradient of a loss of 0\.\d+ is not finite at step 3, after 1 skipped steps"),
    ],
)
def test_more_of_them_than_allowed_end_the_epoch(criterion: Bad, told: str) -> None:
    with pytest.raises(NotFiniteError, match=told):
        train(criterion, limit=1)


def half() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu"))


def test_gradients_that_overflow_in_16_bits_lower_their_scale_and_are_no_fault() -> None:
    fabric = half()
    precision: Any = fabric.strategy.precision
    result, network, _ = train(Bad(gradients=(2,)), limit=0, fabric=fabric)
    assert (result.steps, result.skipped) == (4, 0)
    assert precision.scaler.get_scale() == 65536 / 2
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_gradients_in_16_bits_are_unscaled_before_they_are_clipped() -> None:
    single, doubled = train(Bad(), clips=True)[2].norms, train(Bad(), fabric=half(), clips=True)[2].norms
    assert doubled == pytest.approx(single, rel=0.05)
