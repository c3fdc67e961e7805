"""Whole runs: the loop end to end, its edges, and exact resuming."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from reidkit.clustering import JaccardDBSCAN
from reidkit.errors import DataError, RunError, TrainingError
from reidkit.loop import load_model
from reidkit.memory import ClusterMemory
from reidkit.runs import EpochRecord, RunFolder
from reidkit.storage.feature_files import read_features
from reidkit.usl import train_usl
from tests.datasets.test_decoding import corrupt_images
from tests.tiny import tiny_config, tiny_run


def without_times(history: list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds={}) for record in history]


def labelled(labels: Callable[[int], Any]) -> Callable[..., Any]:
    """A clusterer's `fit` that ignores its features."""

    def fit(self: JaccardDBSCAN, features: Any) -> JaccardDBSCAN:
        self.labels_ = np.asarray(labels(len(features)), np.int64)
        count = len(features)
        self.graph_ = csr_array(np.zeros((count, count), dtype=np.float32))
        return self

    return fit


def test_a_run_leaves_a_complete_folder(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    history = train_usl(config, run)
    assert [record.epoch for record in history] == [0, 1, 2]
    assert run.read_metrics() == history
    assert run.read_config() == config
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert {
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "labels/epoch_001.npz",
        "labels/epoch_002.npz",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    } <= names
    assert any("tfevents" in name for name in names)
    stored = read_features(run.path)
    with np.load(run.path / "labels" / "epoch_002.npz") as labels:
        assert stored.paths == labels["paths"].tolist()
        found = JaccardDBSCAN(eps=0.5, k1=8, k2=2, min_samples=2).fit_predict(stored.features)
        np.testing.assert_array_equal(found, labels["labels"])
    assert not [name for name in names if name.endswith(".tmp")]
    last = history[-1]
    assert 0 <= last.scores["mAP"] <= 100
    assert last.loss is not None
    assert last.loss > 0
    with np.load(run.path / "labels" / "epoch_002.npz") as labels:
        assert len(labels["labels"]) == len(labels["paths"])
        assert labels["labels"].max() + 1 == last.clusters


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_two_and_two_epochs_equal_four_bit_for_bit(people: Path, tmp_path: Path, warmup: int) -> None:
    settings: dict[str, Any] = {"warmup": {"epochs": warmup}, "backbone": {"depth": 2, "drop_path": 0.2}}
    four = tiny_config(people, training={"epochs": 4}, **settings)
    straight = tiny_run(tmp_path / "straight", four)
    expected = train_usl(four, straight)
    two = tiny_config(people, training={"epochs": 2}, **settings)
    resumed = tiny_run(tmp_path / "resumed", two)
    train_usl(two, resumed)
    history = train_usl(four, RunFolder.open(resumed.path), resume=True)
    assert without_times(history) == without_times(expected)
    first, second = (run.load_checkpoint() for run in (straight, resumed))
    assert first is not None
    assert second is not None
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name


def test_a_kill_between_checkpoint_and_metrics_loses_nothing(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    expected = train_usl(config, run)
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join(lines[:-1]) + lines[-1][:10])
    assert train_usl(config, run, resume=True) == expected
    assert run.read_metrics() == expected


def test_warm_up_on_a_labelled_source(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people, warmup={"epochs": 1, "source": str(people)})
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[1].labels == "identities"
    assert history[1].clusters == 8
    assert history[2].labels == "clusters"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (lambda count: np.full(count, -1), "images were labelled noise at eps=0.5.*raise --eps or lower --min-samples"),
        (lambda count: np.zeros(count, dtype=int), "images fell into one cluster at eps=0.5.*lower --eps"),
    ],
)
def test_without_two_clusters_the_epoch_tells_images_apart(
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    labels: Callable[[int], Any],
    words: str,
) -> None:
    monkeypatch.setattr(JaccardDBSCAN, "fit", labelled(labels))
    config = tiny_config(people)
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert [record.labels for record in history[1:]] == ["instances", "instances"]
    assert all(record.loss is not None and np.isfinite(record.loss) for record in history[1:])
    assert re.search(words, caplog.text)


def test_fewer_clusters_than_p_make_smaller_batches(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(JaccardDBSCAN, "fit", labelled(lambda count: np.arange(count) % 2))
    config = tiny_config(people)
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[1].images == 2 * 4 * 3
    assert "2 clusters are fewer than the 4 of a batch" in caplog.text


def test_the_quality_of_a_clustering_is_recorded(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JaccardDBSCAN, "fit", labelled(lambda count: np.arange(count) // 2))
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    history = train_usl(config, run)
    first, second = (record.quality for record in history[1:])
    assert "stability" not in first
    assert second["stability"] == 1
    assert second["cluster_size_median"] == second["cluster_size_max"] == second["cluster_sizes/2"] * 2 / 24 == 2
    assert second["silhouette"] == 0
    assert 1 <= second["cameras_per_cluster"] <= 2
    longer = tiny_config(people, training={"epochs": 3})
    resumed = train_usl(longer, RunFolder.open(run.path), resume=True)
    assert resumed[-1].quality["stability"] == 1


def test_clusters_of_a_hierarchy(people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(people, clustering={"method": "hdbscan", "min_cluster_size": 2}, training={"epochs": 1})
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[1].labels == "clusters"
    large = tiny_config(people, clustering={"method": "hdbscan", "min_cluster_size": 40}, training={"epochs": 1})
    history = train_usl(large, tiny_run(tmp_path / "large", large))
    assert history[1].labels == "instances"
    assert "labelled noise at min_cluster_size=40" in caplog.text
    assert "lower clustering.min_cluster_size" in caplog.text


def test_clusters_smaller_than_k_are_drawn_with_replacement(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JaccardDBSCAN, "fit", labelled(lambda count: np.arange(count) // 2))
    config = tiny_config(people)
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[1].images == 16 * 3


def test_unreadable_images_are_named_and_left_out(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = shutil.copytree(people, tmp_path / "damaged")
    victim = min((damaged / "bounding_box_train").iterdir())
    victim.write_bytes(b"not a picture")
    config = tiny_config(damaged, training={"epochs": 1})
    run = tiny_run(tmp_path / "run", config)
    train_usl(config, run)
    assert f"unreadable image, left out: {victim}" in caplog.text
    assert "1 of" in caplog.text
    with np.load(run.path / "labels" / "epoch_001.npz") as labels:
        assert str(victim) not in labels["paths"]
    strict = tiny_config(damaged, data={"strict": True})
    with pytest.raises(DataError, match="without --strict"):
        train_usl(strict, tiny_run(tmp_path / "strict", strict))


def test_zero_images_are_a_clear_error(people: Path, tmp_path: Path) -> None:
    empty = shutil.copytree(people, tmp_path / "empty")
    for path in (empty / "bounding_box_train").iterdir():
        path.unlink()
    config = tiny_config(empty)
    with pytest.raises(DataError, match="bounding_box_train holds no images"):
        train_usl(config, tiny_run(tmp_path / "run", config))


def test_images_without_camera_ids_train_and_evaluate(people: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(people, tmp_path / "plain")
    for number, path in enumerate(sorted(plain.rglob("*.jpg"))):
        path.rename(path.with_name(f"{path.name[:4]}_{number}.jpg"))
    config = tiny_config(plain, training={"epochs": 1})
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert history[-1].scores["mAP"] > 0


def test_nan_losses_are_skipped_up_to_a_limit(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = ClusterMemory.forward
    calls = iter(range(1000))

    def sometimes_nan(self: ClusterMemory, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = forward(self, features, labels)
        return loss * torch.nan if next(calls) == 1 else loss

    monkeypatch.setattr(ClusterMemory, "forward", sometimes_nan)
    config = tiny_config(people, training={"epochs": 1})
    run = tiny_run(tmp_path / "run", config)
    history = train_usl(config, run)
    assert history[1].skipped == 1
    assert "the loss is nan at step 2" in caplog.text
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint["model"].values())


def test_too_many_nan_losses_stop_the_run_with_its_last_epoch_saved(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterMemory, "forward", lambda self, features, labels: features.sum() * torch.nan)
    config = tiny_config(people, training={"skip_limit": 1})
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 2, after 1 skipped steps.*skip_limit=1"):
        train_usl(config, run)
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert len(checkpoint["history"]) == 1


def test_a_full_disk_keeps_the_last_checkpoint(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    train_usl(config, run)
    before = (run.path / "checkpoints" / "last.pt").read_bytes()

    def full(state: object, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    longer = tiny_config(people, training={"epochs": 3})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            RunError, match=r"(best|last)\.pt could not be written \(No space left on device\).*--resume"
        ):
            train_usl(longer, run, resume=True)
    run.close()
    assert (run.path / "checkpoints" / "last.pt").read_bytes() == before
    assert not list(run.path.rglob("*.tmp"))
    assert len(train_usl(longer, run, resume=True)) == 4


def test_the_best_checkpoint_evaluates_as_recorded(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people)
    run = tiny_run(tmp_path / "run", config)
    train_usl(config, run)
    trained = load_model(run.path)
    assert trained.path.name == "best.pt"
    assert trained.config == config
    assert trained.model.retrieval == "after_neck"


def test_hostile_files_are_handled_as_documented_and_the_run_goes_on(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue of every real crawl: a few files in a thousand are not what their names say."""
    target = shutil.copytree(people, tmp_path / "crawl")
    folder = target / "bounding_box_train"
    lost, read = corrupt_images(folder, "0001_c1s1_900000_00_")
    config = tiny_config(target, training={"epochs": 1})
    run = tiny_run(tmp_path / "run", config)
    history = train_usl(config, run)
    assert history[-1].loss is not None
    assert np.isfinite(history[-1].loss)
    for path in lost:
        assert f"unreadable image, left out: {path}" in caplog.text
    assert "178956970" in caplog.text
    with np.load(run.path / "labels" / "epoch_001.npz") as labels:
        used = set(labels["paths"].tolist())
    assert {str(path) for path in read} <= used
    assert not {str(path) for path in lost} & used


def test_a_folder_without_query_and_gallery_trains_unevaluated(
    people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tmp_path / "photos"
    plain.mkdir()
    for number, path in enumerate(sorted((people / "bounding_box_train").iterdir())):
        shutil.copy(path, plain / f"{number:03d}.jpg")
    config = tiny_config(plain)
    run = tiny_run(tmp_path / "run", config)
    history = train_usl(config, run)
    assert "photos has no query and no gallery images: it is trained on, but nothing is evaluated" in caplog.text
    assert all(not record.scores for record in history)
    assert history[-1].images
    assert load_model(run.path).path.name == "last.pt"


def test_a_second_run_decodes_nothing(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))
    config = tiny_config(people, training={"epochs": 1, "iterations": 1})
    first = train_usl(config, tiny_run(tmp_path / "first", config))

    def refuse(*_: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("reidkit.datasets.decoding._decode", refuse)
    assert without_times(train_usl(config, tiny_run(tmp_path / "second", config))) == without_times(first)


def test_images_beyond_the_disk_budget_give_the_same_run(people: Path, tmp_path: Path) -> None:
    stored = tiny_config(people)
    streamed = tiny_config(people, data={"target": str(people), "store_gib": 0.0})
    expected = train_usl(stored, tiny_run(tmp_path / "stored", stored))
    history = train_usl(streamed, tiny_run(tmp_path / "streamed", streamed))
    assert without_times(history) == without_times(expected)
