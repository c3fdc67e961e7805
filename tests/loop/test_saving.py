"""Errors that end the training of an epoch, and what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reidkit.backbones.stem import ConvStem
from reidkit.errors import TrainingError
from reidkit.loop import Trainer
from reidkit.memory import ClusterMemory
from reidkit.usl import train_usl
from tests.tiny import tiny_config, tiny_run

FORWARD = ClusterMemory.forward


def stop(people: Path, folder: Path, told: str, **settings: Any) -> bool:
    """Train until an error says so; whether it left a bad batch."""
    config = tiny_config(people, training={"epochs": 1, "skip_limit": 0, "save_minutes": 1e-9}, **settings)
    run = tiny_run(folder, config)
    with pytest.raises(TrainingError, match=told):
        train_usl(config, run)
    return run.bad_batch.exists()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda loss, features: loss * torch.nan, "the loss is nan at step 1, after 0 skipped steps.*bad_batch.npz"),
        (lambda loss, features: loss + torch.sqrt(features.sum() * 0), "the gradient of a loss .*bad_batch.npz"),
    ],
)
def test_without_leave_to_skip_the_first_bad_batch_is_saved(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, told: str
) -> None:
    def spoilt(self: ClusterMemory, features: Tensor, labels: Tensor) -> Tensor:
        return spoil(FORWARD(self, features, labels), features)  # type: ignore[no-any-return]

    monkeypatch.setattr(ClusterMemory, "forward", spoilt)
    assert stop(people, tmp_path / "run", told)


def test_other_errors_blame_no_batch(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as weights that are not finite, found when the first step is saved."""
    trained: list[int] = []
    update = ClusterMemory.update

    def note(self: ClusterMemory, features: Tensor, labels: Tensor) -> None:
        trained.append(len(labels))
        update(self, features, labels)

    def check(self: Trainer) -> None:
        if trained:
            raise TrainingError("a weight is not finite any more")

    monkeypatch.setattr(ClusterMemory, "update", note)
    monkeypatch.setattr(Trainer, "check_weights", check)
    assert not stop(people, tmp_path / "run", "a weight is not finite any more")


@pytest.mark.parametrize("moment", ["forward", "backward"])
def test_a_network_that_exhausts_the_memory_is_told_what_would_fit(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    forward = ConvStem.forward

    def exhausted(_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has 8 GiB in all")

    def exhaust(self: ConvStem, images: Tensor) -> Tensor:
        tokens: Tensor = forward(self, images)
        if self.training:
            if moment == "forward":
                exhausted(tokens)
            tokens.register_hook(exhausted)  # type: ignore[no-untyped-call]
        return tokens

    monkeypatch.setattr(ConvStem, "forward", exhaust)
    told = r"too small for training on batches of 16 images \(CUDA.* 2 GiB\.\); .*--set sampler.batch_size=8$"
    assert not stop(people, tmp_path / "run", told)
