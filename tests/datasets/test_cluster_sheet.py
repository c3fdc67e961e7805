from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.cluster_sheet import draw_clusters
from reidkit.loop import training as alternation
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.faults.campaign import MODES
from tests.tiny import tiny_config, tiny_run

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

WIDTH, HEIGHT, GAP, LABEL = 48, 96, 4, 76


def people(count: int) -> NDArray[np.uint8]:
    """Images (count, 3, 32, 16) of one colour each; the red is the image's number."""
    pixels = np.zeros((count, 3, 32, 16), np.uint8)
    pixels[:, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
    pixels[:, 2] = 200
    return pixels


def shown(sheet: Image.Image) -> list[list[int]]:
    """The numbers of the images on the sheet, row by row."""
    picture = np.asarray(sheet)
    tops = range(GAP + HEIGHT // 2, picture.shape[0], HEIGHT + GAP)
    lefts = range(LABEL + WIDTH // 2, picture.shape[1], WIDTH + GAP)
    middles = [[picture[top, left] for left in lefts] for top in tops]
    return [[int(red) for red, _, blue in row if blue == 200] for row in middles]


def test_rows_are_clusters_and_the_largest_is_above() -> None:
    labels = np.array([1, -1, 0, 1, 1, 0, 2, -1])
    assert shown(draw_clusters(labels, people(8))) == [[0, 3, 4], [2, 5], [6]]


def test_the_images_before_those_with_labels_are_passed_over() -> None:
    labels = np.array([0, 0, 1])
    assert shown(draw_clusters(labels, people(10), first=7)) == [[7, 8], [9]]


def test_of_many_clusters_and_images_some_at_even_distances_are_shown() -> None:
    sizes = np.arange(21, 0, -1)  # 21 clusters of 21, 20, ..., 1 images
    labels = np.repeat(np.arange(21), sizes)
    rows = shown(draw_clusters(labels, people(len(labels))))
    assert len(rows) == 10
    clusters = [[int(labels[image]) for image in row] for row in rows]
    assert all(len(set(row)) == 1 for row in clusters)
    assert [row[0] for row in clusters] == [0, 2, 4, 7, 9, 11, 13, 16, 18, 20]
    assert rows[0] == [0, 2, 4, 7, 9, 11, 13, 16, 18, 20]
    assert [len(row) for row in rows] == [10, 10, 10, 10, 10, 10, 8, 5, 3, 1]


def test_wide_and_narrow_images_have_one_height() -> None:
    labels = np.zeros(3, np.int64)
    for height, width, expected in ((64, 64, 96), (10, 200, 192), (200, 10, 32)):
        sheet = draw_clusters(labels, np.zeros((3, 3, height, width), np.uint8))
        assert sheet.size == (LABEL + 3 * (expected + GAP), GAP + HEIGHT + GAP)


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

    def draw(labels: NDArray[np.int64], pixels: Any, *, first: int) -> Image.Image:
        drawn.append((len(labels), len(pixels) - first, first))
        return draw_clusters(labels, pixels, first=first)

    monkeypatch.setattr(alternation, "draw_clusters", draw)
    data = {"target": str(people), "source": str(others)}
    config = tiny_config(people, mode="uda", data=data, **MODES["uda-joint"])
    train_uda(config, tiny_run(tmp_path / "run", config))
    targets, sources = (len(list((folder / "bounding_box_train").iterdir())) for folder in (people, others))
    assert drawn == [(targets, targets, sources)]
    assert pictures(tmp_path / "run") == [2]
