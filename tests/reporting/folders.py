"""Miniature run folders, written by hand: the report must not depend on the code that writes real ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

__all__ = ["SETTINGS", "add_labels", "make_images", "make_run", "records"]

SETTINGS = """
mode = "usl"
seed = 1

[recipe]
name = "usl/small"
description = "Any small image set of your own."

[data]
target = "market"
cameras = true
mean = [0.5, 0.5, 0.25]

[training]
epochs = 4
"""


def records() -> list[dict[str, Any]]:
    """A finished run: evaluated at the start, after epoch 2 and at the end; one epoch of warm-up."""
    shared = {"loss": 1.5, "learning_rate": 1e-3, "skipped": 0, "images": 640}
    seconds = {"extract": 1.0, "cluster": 0.5, "train": 3.0}
    scores = [
        {"mAP": 60.0, "rank1": 80.0, "rank5": 90.0, "rank10": 95.0},
        {"mAP": 55.5, "rank1": 82.0, "rank5": 91.0, "rank10": 96.0},
    ]
    return [
        {"epoch": 0, "mAP": 12.5, "rank1": 30.0, "rank5": 40.0, "rank10": 50.0, "seconds": {"evaluate": 1.5}},
        {"epoch": 1, "labels": "instances", "clusters": 50, "noise": 0.0, **shared, "seconds": seconds},
        {
            "epoch": 2,
            "labels": "clusters",
            "clusters": 4,
            "noise": 0.5,
            **shared,
            **scores[0],
            "seconds": {**seconds, "evaluate": 1.5},
        },
        {"epoch": 3, "labels": "clusters", "clusters": 5, "noise": 0.25, **shared, "seconds": seconds},
        {
            "epoch": 4,
            "labels": "clusters",
            "clusters": 3,
            "noise": 0.125,
            **shared,
            **scores[1],
            "seconds": {**seconds, "evaluate": 1.5},
        },
    ]


def make_run(folder: Path, lines: Sequence[dict[str, Any]], settings: str = SETTINGS) -> Path:
    """A run folder without labels."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(settings, encoding="utf-8")
    environment = {"reidkit": "0.1.0", "cuda": [], "packages": {"torch": "2.9.9"}}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def add_labels(folder: Path, epoch: int, labels: ArrayLike, paths: Sequence[Path]) -> None:
    """Save the labels of one epoch as a run does."""
    (folder / "labels").mkdir(exist_ok=True)
    names = np.array([str(path) for path in paths])
    np.savez_compressed(folder / "labels" / f"epoch_{epoch:03d}.npz", labels=np.asarray(labels), paths=names)


def make_images(folder: Path, names: Sequence[str], size: tuple[int, int] = (24, 48)) -> list[Path]:
    """Small pictures, each of a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for index, path in enumerate(paths):
        Image.new("RGB", size, ((37 * index) % 256, (91 * index) % 256, 128)).save(path, "PNG")
    return paths
