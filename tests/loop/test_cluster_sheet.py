"""Runs show some of their clusters in TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets import draw_clusters
from reidkit.loop import saving
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.faults.campaign import MODES
from tests.tiny import tiny_config, tiny_run

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def pictures(run: Path) -> list[int]:
    """The epochs whose clusters TensorBoard shows."""
    events = accumulator.EventAccumulator(str(run))
    events.Reload()
    shown = events.Tags()["images"]
    assert shown in ([], ["clusters"])
    return [event.step for name in shown for event in events.Images(name)]


def test_a_run_shows_clusters_at_its_evaluations(people: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"warmup": {"epochs": 2}, "evaluation": {"every": 2}}
    config = tiny_config(people, training={"epochs": 5}, **settings)
    history = train_usl(config, tiny_run(tmp_path / "run", config))
    assert [record.epoch for record in history if record.scores] == [0, 2, 4, 5]
    assert pictures(tmp_path / "run") == [4, 5]  # there are none before the first clustering


def test_identities_are_no_clusters(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people, mode="supervised", training={"epochs": 1}, **MODES["supervised"])
    train_supervised(config, tiny_run(tmp_path / "run", config))
    assert pictures(tmp_path / "run") == []


def test_of_two_domains_the_target_is_shown(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(labels: NDArray[np.int64], pixels: Any) -> Image.Image:
        drawn.append((len(labels), len(pixels)))
        return draw_clusters(labels, pixels)

    monkeypatch.setattr(saving, "draw_clusters", draw)
    data = {"target": str(people), "source": str(others)}
    config = tiny_config(people, mode="uda", data=data, **MODES["uda-joint"])
    train_uda(config, tiny_run(tmp_path / "run", config))
    targets = len(list((people / "bounding_box_train").iterdir()))
    assert drawn == [(targets, targets)]
    assert pictures(tmp_path / "run") == [2]
