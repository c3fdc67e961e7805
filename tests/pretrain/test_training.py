"""Whole pre-trainings: the loop with a teacher as its model."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.datasets import load_dataset
from reidkit.errors import ConfigError, DataError
from reidkit.loop import load_model
from reidkit.pretrain import train_pretrain, write_list
from reidkit.runs import EpochRecord, RunConfig, RunFolder
from reidkit.usl import train_usl
from tests.tiny import tiny_config, tiny_run

PRETRAIN = {"outputs": 24, "hidden": 16, "bottleneck": 8, "iterations": 3, "warmup_epochs": 1}
CROPS = {"local_crops": 2, "local_size": (16, 16)}


def config_of(target: Path, **settings: Any) -> RunConfig:
    sections: dict[str, Any] = {
        "mode": "pretrain",
        "sampler": {"batch_size": 8, "instances": 1},
        "pretrain": PRETRAIN | settings.pop("pretrain", {}),
        "crops": CROPS,
        "backbone": {"depth": 2, "drop_path": 0.1},
    }
    return tiny_config(target, **(sections | settings))


def pretrain(folder: Path, config: RunConfig, *, resume: bool = False) -> tuple[RunFolder, list[EpochRecord]]:
    run = RunFolder.open(folder) if resume else tiny_run(folder, config)
    return run, train_pretrain(config, run, resume=resume)


def test_the_teacher_is_kept_and_is_a_start_for_usl(people: Path, tmp_path: Path) -> None:
    run, history = pretrain(tmp_path / "run", config_of(people))
    assert [record.epoch for record in history] == [0, 1, 2]
    assert run.read_metrics() == history
    assert {"mAP", "teacher_entropy", "feature_rank", "feature_spread"} <= history[-1].numbers().keys()
    assert history[1].images == 8 * 3
    state = run.load_checkpoint()
    assert state is not None
    stored, heads = state["model"], state["heads"]
    assert not torch.equal(stored["backbone.cls_token"], heads["0.student.backbone.cls_token"])
    kept = load_model(run.path)
    assert kept.model.retrieval == "before_neck"
    start = tmp_path / "run" / "checkpoints" / "last.pt"
    usl = tiny_config(people, backbone={"depth": 2, "pretrained": str(start)}, training={"epochs": 1, "iterations": 1})
    begun = train_usl(usl, tiny_run(tmp_path / "usl", usl))
    assert begun[0].scores["mAP"] == pytest.approx(
        history[-1].scores["mAP"], abs=25
    )  # the neck is new: the same model otherwise


def test_resuming_is_exact(people: Path, tmp_path: Path) -> None:
    whole, expected = pretrain(tmp_path / "whole", config_of(people, training={"epochs": 3}))
    short = config_of(people, training={"epochs": 3})
    run = tiny_run(tmp_path / "parts", short)
    saved = run.append

    def kill(record: EpochRecord) -> None:
        saved(record)
        if record.epoch == 1:
            raise KeyboardInterrupt

    run.append = kill  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train_pretrain(short, run)
    resumed, history = pretrain(tmp_path / "parts", short, resume=True)
    strip = [replace(record, seconds={}) for record in (*history, *expected)]
    assert strip[: len(history)] == strip[len(history) :]
    ends = [run.load_checkpoint() for run in (whole, resumed)]
    assert ends[0] is not None
    assert ends[1] is not None
    for part in ("model", "heads"):
        for name, weight in ends[0][part].items():
            assert torch.equal(weight, ends[1][part][name]), name


def test_parts_of_a_batch_add_up_to_the_batch(people: Path, tmp_path: Path) -> None:
    """Without BatchNorm, and with views that do not depend on the parts: only the order of the sums differs."""
    plain = {
        "backbone": {"name": "vit_tiny", "drop_path": 0.0},
        "crops": CROPS
        | {"jitter": 0.0, "grey": 0.0, "flip": 0.0, "global_scale": (1.0, 1.0), "stretch": (1.0, 1.0)}
        | {"global_blur": (0.0, 0.0), "solarise": (0.0, 0.0), "local_crops": 0},
    }
    _, whole = pretrain(tmp_path / "whole", config_of(people, **plain))
    _, parts = pretrain(tmp_path / "parts", config_of(people, **plain, pretrain={"parts": 4}))
    for one, other in zip(whole[1:], parts[1:], strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-5)
        assert other.images == one.images


def test_a_list_and_further_data_decide_the_images(people: Path, others: Path, tmp_path: Path) -> None:
    names = [f"bounding_box_train/{path.name}" for path in load_dataset(str(people)).train.paths[:10]]
    write_list(tmp_path / "list.txt", names)
    config = config_of(people, pretrain={"list": str(tmp_path / "list.txt")}, training={"epochs": 1})
    _, history = pretrain(tmp_path / "listed", config)
    assert history[1].clusters == 10
    both = config_of(people, pretrain={"more": (str(others),)}, training={"epochs": 1})
    _, history = pretrain(tmp_path / "both", both)
    assert history[1].clusters == len(load_dataset(str(people)).train) + len(load_dataset(str(others)).train)


def test_a_data_set_is_found_once(people: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reidkit")
    pretrain(tmp_path / "run", config_of(people, pretrain={"more": (str(others),)}, training={"epochs": 1}))
    found = [record.getMessage() for record in caplog.records if record.name == "reidkit.datasets.catalog"]
    assert found == [f"{path.name}: Market-1501 layout, at {path}" for path in (people, others)]


def test_a_list_is_read_before_data_are_looked_for(tmp_path: Path) -> None:
    config = config_of(tmp_path / "nowhere", pretrain={"list": str(tmp_path / "absent.txt")})
    with pytest.raises(DataError, match=r"absent\.txt"):
        pretrain(tmp_path / "run", config)


def test_images_without_any_label_are_enough(people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for number, path in enumerate(load_dataset(str(people)).train.paths[:12]):
        (plain / f"{number}.jpg").write_bytes(path.read_bytes())
    run, history = pretrain(tmp_path / "run", config_of(plain, training={"epochs": 1}))
    assert "has no query and no gallery images: it is trained on, but nothing is evaluated" in caplog.text
    assert not history[-1].scores
    assert history[-1].loss is not None
    assert np.isfinite(history[-1].loss)
    assert load_model(run.path).path.name == "last.pt"
    probed = config_of(plain, training={"epochs": 1}, pretrain={"probe": str(people)})
    assert pretrain(tmp_path / "probed", probed)[1][-1].scores


def test_what_does_not_fit_is_refused(people: Path, tmp_path: Path) -> None:
    large = config_of(people, sampler={"batch_size": 512, "instances": 1})
    with pytest.raises(ConfigError, match=r"batch_size=512 is more than the \d+ images; lower --batch-size"):
        pretrain(tmp_path / "large", large)
    with pytest.raises(ConfigError, match=r"batch_size=8 is not a multiple of pretrain.parts=3"):
        pretrain(tmp_path / "odd", config_of(people, pretrain={"parts": 3}))
    with pytest.raises(DataError, match="absent"):
        pretrain(tmp_path / "absent", config_of(people, pretrain={"list": str(tmp_path / "absent.txt")}))
