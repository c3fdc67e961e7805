import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.backbones import EmbeddingModel
from reidkit.errors import CheckpointError, ConfigError, DataError
from reidkit.loop import (
    EpochLabels,
    ImageSet,
    Progress,
    Trainer,
    build_model,
    cluster_fields,
    create_fabric,
    find_dataset,
    load_model,
    read_dataset,
)
from reidkit.runs import EpochRecord, RunConfig, RunFolder
from reidkit.uda import train_uda
from reidkit.uda.joint import joint_stage
from tests.supervised.test_training import Stopped, without_times
from tests.tiny import tiny_config, tiny_run

SUPERVISED: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "instances": 2,
    "iterations": 3,
    "optimizer": {"name": "adamw"},
    "schedule": {"name": "step", "warmup_epochs": 0},
}


def config_of(source: Path, target: Path, *, epochs: int = 4, strategy: str = "finetune", **settings: Any) -> RunConfig:
    return tiny_config(
        target,
        mode="uda",
        data={"target": str(target), "source": str(source)},
        supervised=SUPERVISED,
        uda={"strategy": strategy},
        training={"epochs": epochs},
        **settings,
    )


@pytest.mark.parametrize("strategy", ["finetune", "joint"])
def test_both_stages_in_one_folder(people: Path, others: Path, tmp_path: Path, strategy: str) -> None:
    config = config_of(others, people, strategy=strategy)
    run = tiny_run(tmp_path / "run", config)
    history = train_uda(config, run)
    assert [record.labels for record in history] == [None, "identities", "identities", "clusters", "clusters"]
    assert [record.epoch for record in history if record.others] == [2, 4]
    assert set(history[2].others) == {"others"}
    assert all(0 <= record.others["others"]["mAP"] <= 100 for record in (history[2], history[4]))
    assert all(record.quality for record in history[3:])
    assert [record.learning_rate for record in history[1:]] == [4e-4, 4e-4, 1e-3, 1e-3]
    with np.load(run.path / "labels" / "epoch_004.npz") as stored:  # of the target alone
        assert len(stored["labels"]) == len(list((people / "bounding_box_train").glob("*.jpg")))
        assert stored["labels"].max() + 1 == history[4].clusters
    assert load_model(run.path / "checkpoints" / "last.pt").model.retrieval == "after_neck"


@pytest.mark.parametrize("strategy", ["finetune", "joint"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_stopped_run_goes_on_bit_for_bit_in_either_stage(
    people: Path, others: Path, tmp_path: Path, strategy: str, after: int
) -> None:
    config = config_of(others, people, strategy=strategy, backbone={"depth": 2, "drop_path": 0.2})
    straight, stopped = tiny_run(tmp_path / "straight", config), tiny_run(tmp_path / "stopped", config)
    expected = train_uda(config, straight)
    with pytest.raises(KeyboardInterrupt):
        train_uda(config, Stopped(stopped, after=after))
    history = train_uda(config, RunFolder.open(stopped.path), resume=True)
    assert without_times(history) == without_times(expected)
    first, second = straight.load_checkpoint(), stopped.load_checkpoint()
    assert first is not None
    assert second is not None
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(tensor, second["model"][name]) for name, tensor in first["model"].items())


def test_the_target_starts_from_the_backbone_alone(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neck as new and a new optimiser: the features before and after it then rank alike."""
    reset: list[bool] = []
    plain = EmbeddingModel.reset_neck

    def spy(model: EmbeddingModel) -> None:
        reset.append(bool(model.bottleneck.state_dict()["running_mean"].any()))
        plain(model)

    monkeypatch.setattr(EmbeddingModel, "reset_neck", spy)
    train_uda(config_of(others, people), tiny_run(tmp_path / "run", config_of(others, people)))
    assert reset == [True]


def test_a_source_checkpoint_skips_the_first_stage(people: Path, others: Path, tmp_path: Path) -> None:
    config = config_of(others, people)
    run = tiny_run(tmp_path / "both", config)
    both = train_uda(config, run)
    checkpoint = run.path / "checkpoints" / "source.pt"
    later = config_of(others, people, epochs=2)
    later = later.model_copy(update={"uda": later.uda.model_copy(update={"source_checkpoint": str(checkpoint)})})
    history = train_uda(later, tiny_run(tmp_path / "later", later))
    assert [record.labels for record in history] == [None, "clusters", "clusters"]
    assert history[0].scores["mAP"] == pytest.approx(
        both[2].scores["mAP"], abs=1e-3
    )  # before adaptation, as the first stage left it
    assert [record.epoch for record in history if record.others] == [2]


def test_joint_training_may_start_from_a_source_checkpoint(people: Path, others: Path, tmp_path: Path) -> None:
    config = config_of(others, people)
    run = tiny_run(tmp_path / "both", config)
    train_uda(config, run)
    joint = config_of(others, people, strategy="joint", epochs=2)
    checkpoint = str(run.path / "checkpoints" / "source.pt")
    joint = joint.model_copy(update={"uda": joint.uda.model_copy(update={"source_checkpoint": checkpoint})})
    expected = train_uda(joint, tiny_run(tmp_path / "whole", joint))
    assert [record.labels for record in expected] == [None, "clusters", "clusters"]
    parts = tiny_run(tmp_path / "parts", joint)
    with pytest.raises(KeyboardInterrupt):
        train_uda(joint, Stopped(parts, after=1))
    assert without_times(train_uda(joint, parts, resume=True)) == without_times(expected)


def test_joint_labels_are_source_classes_target_clusters_and_single_images(
    people_sets: tuple[ImageSet, ImageSet], others: Path, people: Path
) -> None:
    source, target = people_sets
    config = config_of(others, people, strategy="joint")
    trainer = Trainer(create_fabric("cpu", "32"), build_model(config.backbone, 1), config, Progress())
    stage = joint_stage(source, target, cluster_fields(trainer))
    count, classes = len(source.pixels), int(source.split.identities.max()) + 1
    random = np.random.default_rng(0)
    features = random.standard_normal((count + len(target.pixels), 16)).astype(np.float32)
    centres = random.standard_normal((4, 16)) * 4
    features[count : count + 20] += np.repeat(centres, 5, axis=0).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = stage.label(features, 1)
    assert isinstance(labels.found, EpochLabels)
    found = labels.found
    assert found.clusters >= 2
    assert found.noise > 0
    np.testing.assert_array_equal(labels.labels[:count], source.split.identities)
    joined = labels.labels[count:] - classes
    np.testing.assert_array_equal(joined[found.labels >= 0], found.labels[found.labels >= 0])
    single = joined[found.labels < 0]
    assert sorted(single.tolist()) == list(range(found.clusters, found.clusters + found.noise))
    assert set(stage.images.split.cameras[:count]).isdisjoint(stage.images.split.cameras[count:])


@pytest.fixture
def people_sets(people: Path, others: Path) -> tuple[ImageSet, ImageSet]:
    config = config_of(others, people)
    source, target = (
        read_dataset(find_dataset(str(path), config, None, Progress()), "train", config, Progress())
        for path in (others, people)
    )
    return source, target


def refused(config: RunConfig, run: Path) -> list[EpochRecord]:
    return train_uda(config, tiny_run(run, config))


def test_what_does_not_fit_is_refused_before_any_training(people: Path, others: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(people)
    untested = shutil.copytree(people, tmp_path / "untested")
    for image in (untested / "query").iterdir():
        image.unlink()
    nameless = shutil.copytree(others, tmp_path / "nameless")
    for number, image in enumerate(sorted((nameless / "bounding_box_train").glob("*.jpg"))):
        image.rename(image.with_name(f"-1_c1s1_{number:06d}_00.jpg"))
    wrong = tmp_path / "wrong.pt"
    other = tiny_config(people, backbone={"embed_dim": 48})
    torch.save({"model": build_model(other.backbone, 0).state_dict()}, wrong)
    cases: list[tuple[RunConfig, type[Exception], str]] = [
        (config_of(people, people), ConfigError, "source and target are both .*name two data sets"),
        (config_of(link, people), ConfigError, "the same images"),
        (config_of(others, people, epochs=2), ConfigError, r"supervised.epochs=2 leaves none of training.epochs=2"),
        (config_of(others, untested), DataError, "query"),
        (config_of(nameless, people), DataError, "identit|train"),
        (config_of(Path(), people), DataError, "."),
    ]
    for number, (config, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            refused(config, tmp_path / f"run-{number}")
        assert not (tmp_path / f"run-{number}" / "metrics.jsonl").exists()
    config = config_of(others, people)
    config = config.model_copy(update={"uda": config.uda.model_copy(update={"source_checkpoint": str(wrong)})})
    with pytest.raises(CheckpointError, match="does not fit the model"):
        refused(config, tmp_path / "run-wrong")
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": ""})})
    with pytest.raises(ConfigError, match="name one with --source"):
        refused(config, tmp_path / "run-none")
