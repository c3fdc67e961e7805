import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.errors import ConfigError, DataError
from reidkit.loop import load_model
from reidkit.runs import EpochRecord, RunFolder
from reidkit.supervised import train_supervised
from tests.tiny import tiny_config, tiny_run

SMALL: dict[str, Any] = {"batch_size": 16, "instances": 2, "iterations": 4, "optimizer": {"name": "adamw"}}


def without_times(history: list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds={}) for record in history]


@pytest.mark.parametrize("criterion", ["identities", "centroids"])
def test_it_learns_the_identities_it_is_given(people: Path, tmp_path: Path, criterion: str) -> None:
    schedule = {"name": "step", "warmup_epochs": 0}
    supervised = SMALL | {"criterion": criterion, "schedule": schedule}
    supervised["optimizer"] = {"name": "adamw", "learning_rate": 3e-3}
    settings = {
        "supervised": supervised,
        "memory": {"temperature": 0.5, "update": "mean"},
        "augmentation": {"erasing": 0},
    }
    config = tiny_config(people, mode="supervised", training={"epochs": 8}, **settings)
    run = tiny_run(tmp_path / "run", config)
    history = train_supervised(config, run)
    assert [record.labels for record in history[1:]] == ["identities"] * 8
    assert {record.clusters for record in history[1:]} == {8}
    losses = [record.loss for record in history if record.loss is not None]
    assert losses[-1] < losses[0]
    assert load_model(run.path).model.retrieval == ("before_neck" if criterion == "identities" else "after_neck")


def test_two_and_two_epochs_equal_four_bit_for_bit(people: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "supervised", "supervised": SMALL, "backbone": {"depth": 2, "drop_path": 0.2}}
    four = tiny_config(people, training={"epochs": 4}, **settings)
    straight = tiny_run(tmp_path / "straight", four)
    expected = train_supervised(four, straight)
    run = tiny_run(tmp_path / "resumed", four)
    # The schedule runs over all epochs, so the first half is the four epochs' run, stopped: its folder cut back.
    half = tiny_config(people, training={"epochs": 4}, **settings)
    stopped = Stopped(run, after=2)
    with pytest.raises(KeyboardInterrupt):
        train_supervised(half, stopped)
    history = train_supervised(four, RunFolder.open(run.path), resume=True)
    assert without_times(history) == without_times(expected)
    first, second = straight.load_checkpoint(), run.load_checkpoint()
    assert first is not None
    assert second is not None
    assert first["heads"].keys() == second["heads"].keys() != set()
    for part in ("model", "heads"):
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), name


class Stopped(RunFolder):
    """A run folder whose user presses Ctrl-C after an epoch."""

    def __init__(self, run: RunFolder, *, after: int) -> None:
        super().__init__(run.path)
        self._after = after

    def append(self, record: EpochRecord) -> None:
        super().append(record)
        if record.epoch == self._after:
            raise KeyboardInterrupt


def test_iterations_cover_the_images_once_unless_given(people: Path, tmp_path: Path) -> None:
    supervised = SMALL | {"iterations": None}
    config = tiny_config(people, mode="supervised", supervised=supervised, training={"epochs": 1})
    run = tiny_run(tmp_path / "run", config)
    history = train_supervised(config, run)
    with np.load(run.path / "labels" / "epoch_001.npz") as stored:
        count = len(stored["labels"])
    assert history[1].images == count // 16 * 16


def test_the_schedule_and_the_bias_rate_are_those_of_the_section(people: Path, tmp_path: Path) -> None:
    supervised = SMALL | {
        "optimizer": {"name": "sgd", "learning_rate": 4e-3, "bias_factor": 2.0},
        "schedule": {"name": "step", "step_epochs": 1, "factor": 0.5, "warmup_epochs": 0},
    }
    config = tiny_config(people, mode="supervised", supervised=supervised)
    run = tiny_run(tmp_path / "run", config)
    history = train_supervised(config, run)
    assert [record.learning_rate for record in history[1:]] == [4e-3, 2e-3]
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert [group["lr"] for group in checkpoint["optimizer"]["param_groups"]] == [2e-3, 4e-3]


def test_a_batch_is_whole_identities(people: Path) -> None:
    with pytest.raises(ConfigError, match=r"supervised.batch_size=10 is not a multiple of supervised.instances=4"):
        tiny_config(people, supervised={"batch_size": 10, "instances": 4})


def test_images_without_identities_are_refused_before_training(people: Path, tmp_path: Path) -> None:
    nameless = shutil.copytree(people, tmp_path / "nameless")
    for image in (nameless / "bounding_box_train").glob("*.jpg"):
        image.rename(image.with_name(f"-1{image.name[4:]}"))
    config = tiny_config(nameless, mode="supervised", supervised=SMALL)
    with pytest.raises(DataError, match=r"bounding_box_train|no train images|identity"):
        train_supervised(config, tiny_run(tmp_path / "run", config))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
