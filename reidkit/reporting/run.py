"""A run folder, finished or not, as read: what is missing or damaged becomes a note in words, not an error."""

import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError, RunError
from reidkit.reporting.wording import count
from reidkit.storage import RUN_FEATURES, read_arrays, read_features, read_file

__all__ = ["Clustering", "Epoch", "Integers", "Run", "TrainingFeatures", "read_run", "read_training_features"]

Value = TypeVar("Value")
Integers = NDArray[np.int64]

_MODES = {"usl": "USL", "uda": "UDA", "supervised": "Supervised training", "pretrain": "Pre-training"}

_EPOCHS = 10**6  # a number beyond is no epoch's
_UNREADABLE = "is missing or cannot be opened"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of metrics.jsonl; epoch 0 is the evaluation before training."""

    number: int
    kind: str
    """`clusters`, `instances` (every image its own class), or empty in an epoch without training."""
    metrics: dict[str, float]
    """Every finite number on the line by its name: mAP, rank1 (both per cent), clusters, noise (a share), loss, ..."""
    seconds: dict[str, float]
    """Time by stage."""
    others: dict[str, float] = field(default_factory=dict)
    """mAP in per cent on other data sets, by name: before the target's first epoch and at the end of UDA."""
    quality: dict[str, float] = field(default_factory=dict)
    """Metrics of the clustering by name: stability, silhouette, cameras_per_cluster, ..."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """The pseudo-labels of one epoch."""

    epoch: int
    labels: Integers
    """(N,) cluster of every image, -1 is noise."""
    paths: list[str]
    """N absolute image paths; the images may be gone."""

    @property
    def clusters(self) -> tuple[Integers, Integers]:
        """(C,) labels without noise in ascending order, and (C,) images in each."""
        labels, sizes = np.unique(self.labels[self.labels >= 0], return_counts=True)
        return labels, sizes.astype(np.int64)

    @property
    def noise(self) -> int:
        """Images without a cluster."""
        return int((self.labels < 0).sum())


class TrainingFeatures(NamedTuple):
    """Features, identities and cameras of the images of a clustering, row by row."""

    features: NDArray[np.float32]
    """(N, D), L2-normalised."""
    identities: Integers
    """(N,), -1 is unknown."""
    cameras: Integers
    """(N,), -1 is unknown."""


@dataclass(frozen=True, slots=True)
class Run:
    """Content of a run folder."""

    folder: Path
    config: dict[str, Any]
    """All settings by section; empty if damaged."""
    environment: dict[str, Any]
    """Versions and hardware; empty if missing."""
    epochs: list[Epoch]
    """In ascending order."""
    clustering: Clustering | None
    """Of the last epoch that trained on clusters and whose labels are readable."""
    notes: list[str]
    """Missing and damaged files, one sentence each."""

    @property
    def title(self) -> str:
        """Mode and target; of a target that is a folder, its name."""
        mode, target = self.config.get("mode"), self.setting("data", "target", str)
        if not isinstance(mode, str) or target is None:
            return self.folder.resolve().name
        return f"{_MODES.get(mode, mode)} on {Path(target).name or target}"

    def setting(self, section: str, name: str, kind: type[Value]) -> Value | None:
        """One setting, or None where the configuration has none of this kind."""
        table = self.config.get(section)
        value = table.get(name) if isinstance(table, dict) else None
        return value if isinstance(value, kind) else None


def read_run(folder: Path) -> Run:
    """Read everything a report shows, except the images.

    Args:
        folder: A run folder; the run may be unfinished.

    Raises:
        RunError: The folder is no run folder.
    """
    if not (folder / "config.toml").is_file():
        raise RunError(
            f"{folder} is not a run folder (it has no config.toml); name the folder that the training command printed "
            "as its run folder"
        )
    notes: list[str] = []
    config = _read_table(folder / "config.toml", tomllib.loads, notes)
    environment = _read_table(folder / "environment.json", json.loads, notes)
    epochs = _read_epochs(folder / "metrics.jsonl", notes)
    return Run(folder, config, environment, epochs, _read_clustering(folder, epochs, notes), notes)


def read_training_features(folder: Path, clustering: Clustering) -> TrainingFeatures | str:
    """Read features.npz of a run folder; return in words why it cannot be used."""
    if not (folder / RUN_FEATURES).is_file():
        return f"{RUN_FEATURES} is missing: a run writes it in its last epoch, if that epoch clusters."
    try:
        stored = read_features(folder / RUN_FEATURES)
    except DataError as error:
        return f"{RUN_FEATURES} is damaged: {error}."
    if stored.paths != clustering.paths:
        return f"{RUN_FEATURES} is of other images than the labels of epoch {clustering.epoch}."
    features = stored.features.astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    unknown = np.full(len(features), -1, np.int64)
    columns = (unknown if column is None else column for column in (stored.identities, stored.cameras))
    return TrainingFeatures(features, *columns)


def _read_table(path: Path, parse: Callable[[str], Any], notes: list[str]) -> dict[str, Any]:
    try:
        table = parse(read_file(path).decode())
        if isinstance(table, dict):
            return table
        notes.append(f"{path.name} is damaged (it holds no table).")
    except OSError:
        notes.append(f"{path.name} {_UNREADABLE}.")
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name} is damaged ({error}).")
    return {}


def _read_epochs(path: Path, notes: list[str]) -> list[Epoch]:
    """The lines of metrics.jsonl; of two lines about one epoch the later counts."""
    try:
        lines = read_file(path).splitlines()
    except OSError:
        return []
    parsed = [_parse_epoch(line) for line in lines]
    damaged = [str(number) for number, epoch in enumerate(parsed, start=1) if epoch is None]
    if damaged:
        numbers = ", ".join(damaged[:5] + ["..."] * (len(damaged) > 5))
        notes.append(f"metrics.jsonl has damaged lines, which are left out: {numbers}.")
    epochs = {epoch.number: epoch for epoch in parsed if epoch is not None}
    return [epochs[number] for number in sorted(epochs)]


def _parse_epoch(line: bytes) -> Epoch | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("epoch")) is not int or not 0 <= record["epoch"] < _EPOCHS:
        return None
    others = record.get("others")
    scores = {name: _numbers(table) for name, table in others.items()} if isinstance(others, dict) else {}
    return Epoch(
        number=record["epoch"],
        kind=str(record.get("labels", "")),
        metrics=_numbers(record),
        seconds=_numbers(record.get("seconds")),
        others={name: table["mAP"] for name, table in scores.items() if "mAP" in table},
        quality=_numbers(record.get("quality")),
    )


def _numbers(table: Any) -> dict[str, float]:
    """The finite numbers of a table."""
    items = table.items() if isinstance(table, dict) else ()
    numbers = {name: value for name, value in items if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if abs(value) <= sys.float_info.max}


def _read_clustering(folder: Path, epochs: list[Epoch], notes: list[str]) -> Clustering | None:
    """The newest readable labels among the epochs that trained on clusters."""
    problems: list[str] = []
    found = None
    for number in (epoch.number for epoch in reversed(epochs) if epoch.kind == "clusters"):
        result = _load_labels(folder / "labels" / f"epoch_{number:03d}.npz", number)
        if isinstance(result, Clustering):
            found = result
            break
        problems.append(result)
    if problems:
        others = f" Those of {count(len(problems) - 1, 'earlier epoch')} cannot be read either." if problems[1:] else ""
        shown = f"The clusters shown are those of epoch {found.epoch}." if found else "No clusters can be shown."
        notes.append(f"{problems[0]}{others} {shown}")
    return found


def _load_labels(path: Path, epoch: int) -> Clustering | str:
    """The labels, or in words why they cannot be shown."""
    name = f"labels/{path.name}"
    try:
        labels, paths = read_arrays(path, ("labels", "paths")).values()
    except OSError:
        return f"{name} {_UNREADABLE}."
    except Exception as error:  # damaged files raise many kinds
        return f"{name} is damaged ({type(error).__name__})."
    if labels.ndim != 1 or labels.dtype.kind != "i" or paths.shape != labels.shape or paths.dtype.kind != "U":
        return f"{name} is damaged (it needs as many whole labels as paths)."
    return Clustering(epoch, labels.astype(np.int64), paths.tolist())
