"""Losses and weights that are not finite, excessive noise, exhausted memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reidkit.backbones.stem import ConvStem
from reidkit.clustering import ClusteringConfig, JaccardDBSCAN
from reidkit.errors import TrainingError
from reidkit.loop import EpochLabels, evaluation, instances, trainer, training
from reidkit.loop.labels import watch_noise
from reidkit.memory import ClusterMemory
from reidkit.pretrain import train_pretrain
from reidkit.runs import RunFolder
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.supervised.test_training import without_times
from tests.tiny import tiny_config, tiny_run
from tests.usl.test_training import labelled

FORWARD = ClusterMemory.forward
OFTEN = 1e-9  # minutes: saved after every step


def weights_of(run: RunFolder) -> dict[str, Tensor]:
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    weights: dict[str, Tensor] = checkpoint["model"]
    return weights


def all_finite(weights: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_the_batch_that_stops_a_run_is_saved_and_the_run_goes_on(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"training": {"iterations": 5, "skip_limit": 1, "save_minutes": OFTEN}}
    config = tiny_config(people, **settings)
    expected = train_usl(config, tiny_run(tmp_path / "whole", config))
    seen: list[list[int]] = []
    values: list[float] = []

    def nan_at_times(self: ClusterMemory, features: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels.tolist())
        loss: Tensor = FORWARD(self, features, labels)
        values.append(loss.item())
        return loss * torch.inf if len(seen) in (7, 9) else loss  # steps 2 and 4 of epoch 2

    run = tiny_run(tmp_path / "run", config)
    with monkeypatch.context() as patch:
        patch.setattr(ClusterMemory, "forward", nan_at_times)
        told = r"the loss is inf at step 4, after 1 skipped steps.*The batch of that step.* are in .*bad_batch\.npz"
        with pytest.raises(TrainingError, match=told):
            train_usl(config, run)
    with np.load(run.path / "bad_batch.npz") as batch, np.load(run.path / "features.npz") as images:
        assert batch["labels"].tolist() == seen[-1]
        assert batch["paths"].tolist() == images["paths"][batch["indices"]].tolist()
        assert np.isfinite(batch["losses"]).tolist() == [True, False, True, False]
        assert batch["losses"][[0, 2]] == pytest.approx([values[5], values[7]], rel=1e-6)
    assert all_finite(weights_of(run))
    history = train_usl(config, run, resume=True)
    assert [record.skipped for record in history[1:]] == [0, 1]
    assert without_times(history[:2]) == without_times(expected[:2])


def test_weights_that_are_not_finite_replace_no_good_checkpoint(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the optimiser produces NaN, before a loss or gradient shows it."""
    config = tiny_config(people, training={"save_minutes": OFTEN})
    expected = train_usl(config, tiny_run(tmp_path / "whole", config))
    calls, step = iter(range(100)), torch.optim.AdamW.step

    def spoil(self: torch.optim.AdamW, closure: None = None) -> None:
        step(self, closure)
        if next(calls) == 4:  # step 2 of epoch 2
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.nan)

    run = tiny_run(tmp_path / "run", config)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spoil)
        with pytest.raises(TrainingError, match=r"is not finite any more; the last checkpoint is from before"):
            train_usl(config, run)
    assert all_finite(weights_of(run))
    assert without_times(train_usl(config, run, resume=True)) == without_times(expected)


def test_a_gradient_that_is_not_finite_is_skipped(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def spoil(self: ClusterMemory, features: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = FORWARD(self, features, labels)
        spoilt = torch.sqrt(features.sum() * 0)  # 0, with a gradient of infinity times 0
        return loss + spoilt if next(calls) == 4 else loss  # step 2 of epoch 2

    monkeypatch.setattr(ClusterMemory, "forward", spoil)
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    assert [record.skipped for record in train_usl(config, run)[1:]] == [0, 1]
    assert all_finite(weights_of(run))


def test_nothing_is_saved_while_losses_are_not_finite(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = RunFolder.save_checkpoint

    def spy(self: RunFolder, name: str, state: dict[str, Any]) -> None:
        if "partial" in state:
            saved.append(state["partial"]["progress"]["steps"] + state["partial"]["progress"]["skipped"])
        save(self, name, state)

    calls = iter(range(1, 100))

    def nan_at_times(self: ClusterMemory, features: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = FORWARD(self, features, labels)
        return loss * torch.nan if next(calls) in (2, 3) else loss

    monkeypatch.setattr(RunFolder, "save_checkpoint", spy)
    monkeypatch.setattr(ClusterMemory, "forward", nan_at_times)
    config = tiny_config(people, training={"epochs": 1, "iterations": 6, "save_minutes": OFTEN})
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[1].skipped == 2
    assert saved == [1, 4, 5]


def test_a_skipped_step_leaves_no_trace_in_the_statistics(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations that overflow, as in 16 bits, reach the running means of every later norm."""
    forward = ConvStem.forward
    trained = iter(range(100))

    def overflow(self: ConvStem, images: Tensor) -> Tensor:
        tokens: Tensor = forward(self, images)
        return tokens * torch.inf if self.training and next(trained) == 1 else tokens

    monkeypatch.setattr(ConvStem, "forward", overflow)
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    assert train_usl(config, run)[1].skipped == 1
    assert all_finite(weights_of(run))


def clusters(*labels: int) -> EpochLabels:
    return EpochLabels(np.array(labels), "clusters")


@pytest.mark.parametrize(
    ("noise", "before", "words"),
    [
        (10, None, "epoch 7: 100 % of the images are noise: the training sees the others only. If it stays so, raise"),
        (9, 0.95, ""),
        (4, 0.2, ""),
        (5, 0.1, "50 % of the images are noise, after 10% in the epoch before"),
        (5, None, ""),
    ],
)
def test_noise_that_takes_over_is_named(
    noise: int, before: float | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch_noise(clusters(*[-1] * noise, *[0] * (10 - noise)), 7, ClusteringConfig(), before=before)
    assert bool(caplog.records) == bool(words)
    assert words in caplog.text


def test_the_noise_of_an_epoch_without_clusters_is_none(caplog: pytest.LogCaptureFixture) -> None:
    watch_noise(instances(4), 1, ClusteringConfig(), before=0.0)
    watch_noise(EpochLabels(np.array([-1, -1, 0]), "identities"), 1, ClusteringConfig(), before=0.0)
    assert not caplog.records
    watch_noise(clusters(-1, -1, 0), 1, ClusteringConfig(method="hdbscan"), before=0.0)
    assert "lower clustering.min_cluster_size, or lower the learning rate" in caplog.text


def test_a_run_watches_its_noise(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs = iter(range(2))

    def more_noise(count: int) -> Any:
        number = np.arange(count)
        return np.where(number % 10 < 6 * next(epochs), -1, number % 4)

    monkeypatch.setattr(JaccardDBSCAN, "fit", labelled(more_noise))
    config = tiny_config(people)
    train_usl(config, tiny_run(tmp_path / "run", config))
    (warning,) = (record.message for record in caplog.records if "are noise" in record.message)
    assert warning.startswith("epoch 2: ")
    assert "after 0% in the epoch before" in warning


@pytest.mark.parametrize(
    ("mode", "train", "told"),
    [
        (
            "usl",
            train_usl,
            r"training on batches of 16 images \(CUDA.* 2 GiB\.\); .*sampler.batch_size=8$",
        ),
        ("supervised", train_supervised, r"--set supervised.batch_size=12$"),
        ("uda", train_uda, r"--set supervised.batch_size=12$"),
        ("pretrain", train_pretrain, r"sampler.batch_size=8, or with the same .*--set pretrain.parts=4$"),
    ],
)
def test_a_batch_that_does_not_fit_is_named_and_one_that_would(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, train: Any, told: str
) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has 8 GiB in all")

    monkeypatch.setattr(training, "train_epoch", exhaust)
    config = tiny_config(
        people,
        mode=mode,
        data={"target": str(people), "source": str(others)},
        supervised={"epochs": 1, "batch_size": 24, "instances": 4},
        pretrain={"outputs": 24, "hidden": 16, "bottleneck": 8, "parts": 2},
        crops={"local_size": (16, 16)},
        training={"skip_limit": 0},
    )
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(TrainingError, match=told):
        train(config, run)
    assert not (run.path / "bad_batch.npz").exists()


@pytest.mark.parametrize("place", [trainer, evaluation])
def test_an_extraction_that_does_not_fit_is_named(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(place, "extract", exhaust)
    config = tiny_config(people)
    with pytest.raises(TrainingError, match=r"features of 256 images at a time .*evaluation.batch_size=128"):
        train_usl(config, tiny_run(tmp_path / "run", config))
