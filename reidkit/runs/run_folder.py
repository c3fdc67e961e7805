"""The run folder: everything that a report or a resumed run needs."""

import itertools
import json
import logging
import os
import platform
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from filelock import BaseFileLock
from numpy.typing import NDArray
from PIL import Image

from reidkit.__about__ import __version__
from reidkit.datasets import Split
from reidkit.errors import ConfigError, RunError
from reidkit.runs.checkpoints import has_checkpoint, load_latest, write_checkpoint
from reidkit.runs.config import RunConfig
from reidkit.runs.events import append_picture, append_scalars, event_path
from reidkit.runs.recipes import resolve_config
from reidkit.runs.records import EpochRecord
from reidkit.storage import (
    LOCK_NAME,
    RUN_FEATURES,
    atomic_write,
    hold,
    is_leftover,
    read_arrays,
    read_file,
    remove_leftovers,
    unwritable,
    write_features,
)

__all__ = ["RunFolder", "environment", "latest_run_path", "new_run_path"]

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "timm", "numba", "numpy", "scipy", "scikit-learn", "hdbscan", "lightning-fabric")


class RunFolder:
    """Reads and writes one run folder.

    `create` and `open` lock it against other processes, until `close` or the end of the process.

    Args:
        path: The folder; `create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_file = path / "log.txt"
        self.bad_batch = path / "bad_batch.npz"
        self._checkpoints, self._labels = path / "checkpoints", path / "labels"
        self._events: Path | None = None
        self._lock: BaseFileLock | None = None

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunFolder":
        """Make a new run folder with configuration and environment.

        The folder of a run that stopped before its first evaluation, for want of data or weights, is used again.

        Raises:
            RunError: The folder is used already, or cannot be written.
        """
        # The folder
        if os.path.lexists(path) and not _may_be_run(path):
            raise _used(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made ({error.strerror}); choose another folder with --output") from None

        # One writer
        run = cls(path)
        run._lock = hold(path)
        if (path / "metrics.jsonl").exists():
            run.close()
            raise _used(path)

        # Configuration and environment
        run.save_config(config)
        run._write("environment.json", json.dumps(environment(), indent=2).encode())
        run._tidy()
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder, and remove what a kill left half-written in it.

        Raises:
            RunError: It is no run folder, another process holds it, or it cannot be written.
        """
        if not os.path.isfile(path / "config.toml"):
            raise RunError(f"{path} is not a run folder (it has no config.toml); start a run without --resume")
        run = cls(path)
        run._lock = hold(path)
        run._tidy()
        return run

    def _write(self, name: str, content: bytes) -> None:
        with atomic_write(self.path / name) as file:
            file.write(content)

    def _tidy(self) -> None:
        """Make the inner folders, and remove what a kill left half-written."""
        for folder in (self.path, self._labels, self._checkpoints):
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise unwritable(folder, error) from error
            remove_leftovers(folder)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return has_checkpoint(self._checkpoints)

    def save_config(self, config: RunConfig) -> None:
        """Write the resolved configuration; `--config` runs it again."""
        self._write("config.toml", tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)).encode())

    def read_config(self) -> RunConfig:
        """Read the configuration of the run.

        Raises:
            RunError: config.toml is damaged or of another version.
        """
        path = self.path / "config.toml"
        try:
            table = tomllib.loads(read_file(path).decode())
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{path} cannot be read: {error}; bring back a copy of it, or start a new run without --resume"
            ) from None
        try:
            return resolve_config([table])
        except ConfigError as error:
            raise RunError(
                f"{path} has settings that reidkit {__version__} does not take: {error}; resume with the reidkit that "
                f"wrote it ({self._writer()}), or start a new run without --resume"
            ) from None

    def _writer(self) -> str:
        """Version of reidkit that began the run."""
        try:
            return str(json.loads(read_file(self.path / "environment.json"))["reidkit"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return "unknown"

    def restore_history(self, records: Sequence[EpochRecord]) -> None:
        """Cut metrics.jsonl back to the epochs of the checkpoint: a kill can fall between the two."""
        self._write("metrics.jsonl", b"".join(map(_line, records)))

    def append(self, record: EpochRecord) -> None:
        """Add one epoch's line to metrics.jsonl and its metrics to the TensorBoard events.

        Raises:
            RunError: The disk is full, or the folder is gone or cannot be written.
        """
        try:
            with (self.path / "metrics.jsonl").open("ab") as file:
                file.write(_line(record))
            append_scalars(self._event_file(), record.epoch, record.numbers())
        except OSError as error:
            raise unwritable(self.path / "metrics.jsonl", error) from error

    def append_picture(self, epoch: int, name: str, picture: Image.Image) -> None:
        """Add a picture (RGB) of an epoch to the TensorBoard events.

        Raises:
            RunError: The disk is full, or the folder is gone or cannot be written.
        """
        path = self._event_file()
        try:
            append_picture(path, epoch, name, picture)
        except OSError as error:
            raise unwritable(path, error) from error

    def _event_file(self) -> Path:
        if self._events is None:
            self._events = event_path(self.path)
        return self._events

    def read_metrics(self) -> list[EpochRecord]:
        """Read the lines of metrics.jsonl.

        Raises:
            RunError: It is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        try:
            return [EpochRecord.from_line(json.loads(line)) for line in read_file(path).splitlines()]
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); --resume writes it again from the last checkpoint") from error

    def save_labels(self, epoch: int, labels: NDArray[np.int64], paths: Sequence[Path]) -> None:
        """Write one epoch's labels (N,), -1 is noise, with the images' absolute paths, to labels/epoch_NNN.npz."""
        with atomic_write(self._labels / f"epoch_{epoch:03d}.npz") as file:
            np.savez_compressed(file, labels=labels, paths=np.array([str(path.resolve()) for path in paths]))

    def save_bad_batch(
        self, indices: NDArray[np.int64], paths: Sequence[Path], labels: NDArray[np.int64], losses: Sequence[float]
    ) -> None:
        """Write the batch at which a run gave up.

        Args:
            indices: (B,) of the training images.
            paths: (B,) of their files.
            labels: (B,) their labels.
            losses: (S,) of the epoch's steps since it was begun or resumed, the batch's last; NaN: not finite.
        """
        with atomic_write(self.bad_batch) as file:
            names = np.array([str(path.resolve()) for path in paths])
            np.savez(file, indices=indices, paths=names, labels=labels, losses=np.array(losses))

    def save_features(self, features: NDArray[np.float32], split: Split) -> None:
        """Write features (N, D) of a split with paths, identities and cameras, as `read_features` reads them."""
        paths = [str(path.resolve()) for path in split.paths]
        write_features(self.path / RUN_FEATURES, features, paths, split.identities, split.cameras)

    def load_labels(self, epoch: int) -> NDArray[np.int64] | None:
        """Read the labels (N,) of an epoch; None if they are gone, or damaged, of which a warning says so."""
        path = self._labels / f"epoch_{epoch:03d}.npz"
        try:
            labels: NDArray[np.int64] = read_arrays(path, ("labels",))["labels"]
            if labels.ndim != 1 or labels.dtype != np.int64:
                raise ValueError(f"labels of shape {labels.shape} and type {labels.dtype}")
        except FileNotFoundError:
            return None
        except Exception as error:  # damaged files raise many kinds
            logger.warning("%s is damaged (%s); nothing is compared with its labels", path, type(error).__name__)
            return None
        return labels

    def save_checkpoint(self, name: str, state: Mapping[str, Any]) -> None:
        """Write checkpoints/NAME.pt, tensors and plain values only, with a checksum; `last` keeps the one before it.

        Raises:
            RunError: It cannot be written; all checkpoints are as they were.
        """
        write_checkpoint(self._checkpoints, name, state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the last checkpoint, or the one before it if that is damaged; None where the run never began.

        Raises:
            RunError: The checkpoints are gone, damaged or of another format.
        """
        state = load_latest(self._checkpoints)
        metrics = self.path / "metrics.jsonl"
        if state is None and metrics.exists() and metrics.stat().st_size:
            raise RunError(
                f"{self._checkpoints} has neither last.pt nor previous.pt, though {metrics.name} has finished "
                "epochs; bring a checkpoint back, or start a new run without --resume"
            )
        return state

    def close(self) -> None:
        """Unlock the folder."""
        self._events = self._lock = None


def new_run_path(parent: Path, name: str) -> Path:
    """Make the first of the folders NAME, NAME-2, NAME-3, ... below `parent` that is free; no two processes get one.

    Raises:
        RunError: It cannot be made.
    """
    for path in _numbered(parent, name):
        try:
            path.mkdir(parents=True)
        except OSError as error:
            if not os.path.lexists(path):
                raise unwritable(path, error) from error
        else:
            break
    return path


def latest_run_path(parent: Path, name: str) -> Path:
    """The last of NAME, NAME-2, NAME-3, ... below `parent` that exists.

    Raises:
        RunError: There is none.
    """
    found = list(itertools.takewhile(Path.exists, _numbered(parent, name)))
    if not found:
        raise RunError(f"{parent / name} does not exist: there is no run to resume; name it with --output")
    return found[-1]


def environment() -> dict[str, Any]:
    """Versions and hardware, for bug reports."""
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


def _may_be_run(path: Path) -> bool:
    """Whether a folder is that of a run, or empty but for a lock and leftovers."""
    if not path.is_dir():
        return False
    ours = (entry.name == LOCK_NAME or is_leftover(entry) for entry in path.iterdir())
    return (path / "config.toml").is_file() or all(ours)


def _used(path: Path) -> RunError:
    return RunError(f"{path} is used already; go on with that run by --resume, or choose another folder with --output")


def _numbered(parent: Path, name: str) -> Iterator[Path]:
    """NAME, NAME-2, NAME-3, ..."""
    yield parent / name
    yield from (parent / f"{name}-{number}" for number in itertools.count(2))


def _line(record: EpochRecord) -> bytes:
    return (json.dumps(record.as_line()) + "\n").encode()
