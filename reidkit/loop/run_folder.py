"""The run folder: everything that a report or a resumed run needs, and nothing else."""

import json
import platform
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from reidkit.__about__ import __version__
from reidkit.datasets import Split
from reidkit.errors import RunError
from reidkit.loop.config import RunConfig
from reidkit.loop.feature_files import RUN_FEATURES
from reidkit.loop.files import atomic_write

__all__ = ["CHECKPOINT_FORMAT", "RunFolder", "environment", "free_run_path", "latest_run_path"]

CHECKPOINT_FORMAT = 1
"""Version of the checkpoint's layout, stored in it."""

Record = dict[str, Any]

_PACKAGES = ("torch", "torchvision", "timm", "numba", "numpy", "scipy", "scikit-learn", "hdbscan", "lightning-fabric")


class RunFolder:
    """Reads and writes one run folder.

    Args:
        path: The folder; `create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_file = path / "log.txt"
        self._events: SummaryWriter | None = None

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunFolder":
        """Make a new run folder and record configuration and environment in it.

        A run that stopped before its first evaluation, for want of data or weights say, left nothing to lose: its
        folder is used again.

        Raises:
            RunError: The folder is used already or cannot be written.
        """
        if path.exists() and not _is_unused(path):
            raise RunError(
                f"{path} is used already; go on with that run by --resume, or choose another folder with --output"
            )
        try:
            for folder in (path / "labels", path / "checkpoints"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made ({error.strerror}); choose another folder with --output") from None
        run = cls(path)
        run.save_config(config)
        with atomic_write(path / "environment.json") as file:
            file.write(json.dumps(environment(), indent=2).encode())
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            RunError: It is not one.
        """
        if not (path / "config.toml").is_file():
            raise RunError(f"{path} is not a run folder (it has no config.toml); start a run without --resume")
        return cls(path)

    def save_config(self, config: RunConfig) -> None:
        """Write the resolved configuration; `--config` runs it again."""
        with atomic_write(self.path / "config.toml") as file:
            tomli_w.dump(config.model_dump(mode="json", exclude_none=True), file)

    def read_config(self) -> RunConfig:
        """The configuration of the run.

        Raises:
            RunError: config.toml is damaged or of another version.
        """
        try:
            with (self.path / "config.toml").open("rb") as file:
                return RunConfig.model_validate(tomllib.load(file))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / 'config.toml'} cannot be read: {error}") from None

    def restore_history(self, records: Sequence[Record]) -> None:
        """Cut metrics.jsonl back to what the checkpoint knows: a kill can fall between the two."""
        with atomic_write(self.path / "metrics.jsonl") as file:
            file.writelines(_line(record) for record in records)

    def append(self, record: Record) -> None:
        """Add one epoch's line to metrics.jsonl and its figures to the TensorBoard events.

        Raises:
            RunError: The disk is full.
        """
        try:
            with (self.path / "metrics.jsonl").open("ab") as file:
                file.write(_line(record))
            if self._events is None:
                self._events = SummaryWriter(str(self.path), purge_step=record["epoch"])
            for name, value in _figures(record):
                self._events.add_scalar(name, value, record["epoch"])
            self._events.flush()
        except OSError as error:
            raise RunError(
                f"metrics could not be written to {self.path} ({error.strerror}); free some space, then go on with "
                "--resume"
            ) from error

    def read_metrics(self) -> list[Record]:
        """The lines of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def save_labels(self, epoch: int, labels: NDArray[np.int64], paths: Sequence[Path]) -> None:
        """Write one epoch's labels (N,), -1 is noise, with the images' absolute paths, to labels/epoch_NNN.npz."""
        with atomic_write(self.path / "labels" / f"epoch_{epoch:03d}.npz") as file:
            np.savez_compressed(file, labels=labels, paths=np.array([str(path.resolve()) for path in paths]))

    def save_features(self, features: NDArray[np.float32], split: Split) -> None:
        """Write features (N, D) of a split, with all that is known of its images, as `read_features` reads them."""
        with atomic_write(self.path / RUN_FEATURES) as file:
            np.savez(
                file,
                features=features,
                identities=split.identities,
                cameras=split.cameras,
                paths=np.array([str(path.resolve()) for path in split.paths]),
            )

    def load_labels(self, epoch: int) -> NDArray[np.int64] | None:
        """The labels (N,) that `save_labels` wrote for an epoch, or None if they are not there."""
        path = self.path / "labels" / f"epoch_{epoch:03d}.npz"
        if not path.is_file():
            return None
        with np.load(path) as stored:
            labels: NDArray[np.int64] = stored["labels"]
        return labels

    def save_checkpoint(self, name: str, state: Mapping[str, Any]) -> None:
        """Write checkpoints/NAME.pt, tensors and plain values only."""
        with atomic_write(self.path / "checkpoints" / f"{name}.pt") as file:
            torch.save({"format": CHECKPOINT_FORMAT, "reidkit": __version__, **state}, file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The state of the last complete epoch, or None where no epoch was completed.

        Raises:
            RunError: The checkpoint is damaged or of another format.
        """
        path = self.path / "checkpoints" / "last.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files raise many kinds
            raise RunError(f"{path} is damaged ({type(error).__name__}: {error}); start the run anew") from error
        if state.get("format") != CHECKPOINT_FORMAT:
            raise RunError(
                f"{path} has format {state.get('format')!r}, this version reads {CHECKPOINT_FORMAT}; resume with the "
                f"reidkit that wrote it ({state.get('reidkit', 'unknown')})"
            )
        return state

    def close(self) -> None:
        """Finish the TensorBoard events."""
        if self._events is not None:
            self._events.close()
            self._events = None


def free_run_path(parent: Path, name: str) -> Path:
    """The first of NAME, NAME-2, NAME-3, ... below `parent` that does not exist."""
    number = 1
    while (path := _numbered(parent, name, number)).exists():
        number += 1
    return path


def latest_run_path(parent: Path, name: str) -> Path:
    """The last of NAME, NAME-2, NAME-3, ... below `parent` that exists.

    Raises:
        RunError: There is none.
    """
    if not _numbered(parent, name, 1).exists():
        raise RunError(f"{parent / name} does not exist: there is no run to resume; name it with --output")
    number = 1
    while _numbered(parent, name, number + 1).exists():
        number += 1
    return _numbered(parent, name, number)


def environment() -> dict[str, Any]:
    """Versions and hardware, as a bug report needs them."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cuda = torch.cuda.is_available()
    return {
        "reidkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
        "packages": versions,
    }


def _is_unused(path: Path) -> bool:
    """Whether a folder is empty, or that of a run which never began."""
    if not path.is_dir():
        return False
    began = (path / "metrics.jsonl").exists()
    return not any(path.iterdir()) or ((path / "config.toml").is_file() and not began)


def _numbered(parent: Path, name: str, number: int) -> Path:
    return parent / (name if number == 1 else f"{name}-{number}")


def _line(record: Record) -> bytes:
    return (json.dumps(record) + "\n").encode()


def _figures(record: Record) -> list[tuple[str, float]]:
    """The numbers of a record, nested names joined by a slash."""
    figures: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            figures += [(f"{name}/{inner}", number) for inner, number in _figures(value)]
        elif isinstance(value, int | float) and name != "epoch":
            figures.append((name, float(value)))
    return figures
