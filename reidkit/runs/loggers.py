"""Weights & Biases and MLflow follow a run, by Lightning's loggers; whatever befalls them, the run goes on."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from lightning_fabric.loggers.logger import Logger
from pydantic import TypeAdapter

from reidkit.config import Settings
from reidkit.errors import ConfigError
from reidkit.runs.config import RunConfig
from reidkit.runs.records import EpochRecord
from reidkit.storage import atomic_write, read_file

__all__ = ["NOTES", "SERVICES", "Followers", "Service", "follow", "require_loggers"]

logger = logging.getLogger(__name__)

NOTES = "loggers.json"
"""The file in a run folder that says which run of a service it is, and what has been told there."""

Ending = Literal["success", "failed", "aborted"]

_PROJECT = "reidkit"
_PATIENCE_SECONDS = 60
_PAUSE_SECONDS = 1800
"""A service that fails is not asked again for so long: the packages themselves try for minutes."""


class Service(NamedTuple):
    """A place that follows runs. Its calls may raise anything."""

    title: str
    packages: tuple[str, ...]
    """What is imported to reach it."""
    open: Callable[[Path, str | None], Logger]
    """The run folder, and the run's id there once it has one -> what is told of it; its `version` is that id."""
    close: Callable[[Logger, Ending], None]
    """How the run ended is the last that it is told."""


def _open_wandb(path: Path, run: str | None) -> Logger:
    wandb, loggers = _modules("wandb")
    # Our console is our own; a service out of reach must neither ask nor hold up a run that is done.
    settings = wandb.Settings(console="off", login_timeout=_PATIENCE_SECONDS, finish_timeout=_PATIENCE_SECONDS)
    project = os.environ.get("WANDB_PROJECT", _PROJECT)
    opened: Logger = loggers.WandbLogger(path.resolve().name, path, id=run, project=project, settings=settings)
    return opened


def _close_wandb(opened: Any, ending: Ending) -> None:
    opened.experiment.finish(exit_code={"success": 0, "failed": 1, "aborted": 255}[ending])


def _open_mlflow(path: Path, run: str | None) -> Logger:
    mlflow, loggers = _modules("mlflow")
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    opened: Any = loggers.MLFlowLogger(experiment, path.resolve().name, mlflow.get_tracking_uri(), run_id=run)
    if run is not None:
        opened.experiment.update_run(run, status="RUNNING")
    return cast(Logger, opened)


def _close_mlflow(opened: Any, ending: Ending) -> None:
    opened.finalize({"success": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}[ending])


def _modules(package: str) -> tuple[Any, Any]:
    """An optional package, and Lightning's loggers."""
    return import_module(package), import_module("pytorch_lightning.loggers")


SERVICES: Mapping[str, Service] = {
    "mlflow": Service("MLflow", ("mlflow", "pytorch_lightning"), _open_mlflow, _close_mlflow),
    "wandb": Service("Weights & Biases", ("wandb", "pytorch_lightning"), _open_wandb, _close_wandb),
}
"""By their names in `logging.loggers`, which are those of the extras too."""


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose packages are not installed.

    Raises:
        ConfigError: One is not; the extra that brings it is named.
    """
    for name in names:
        missing = [package for package in SERVICES[name].packages if not _installed(package)]
        if missing:
            raise ConfigError(
                f"logger {name!r} needs {', '.join(missing)}, not installed here: pip install 'reidkit[{name}]', or go "
                "without it (--set logging.loggers=[])"
            )


def _installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder `wandb`, which wandb makes, is not the package


class _Note(Settings):
    """What a run folder knows of a service."""

    run: str
    """The run's id there."""
    epoch: int
    """The last epoch that it has been told; -1: none."""


class _Follower:
    """One service that follows the run."""

    def __init__(self, service: Service, path: Path, settings: Mapping[str, Any], note: _Note | None) -> None:
        self.run = None if note is None else note.run
        self.epoch = -1 if note is None else note.epoch
        self._service, self._path, self._settings = service, path, settings
        self._opened: Logger | None = None
        self._reached = self._warned = False
        self._quiet_until = 0.0

    def tell(self, history: Sequence[EpochRecord]) -> None:
        """Send what is new, unless the service has failed a short time ago."""
        new = [record for record in history if record.epoch > self.epoch]
        if (new or self.run is None) and time.monotonic() >= self._quiet_until:
            self._try(lambda: self._send(new))

    def close(self, ending: Ending) -> None:
        """Send how the run ended, to a service that was reached and has not failed a short time ago."""
        opened = self._opened
        if opened is not None and self._reached and time.monotonic() >= self._quiet_until:
            self._try(lambda: self._service.close(opened, ending))

    def _send(self, records: Sequence[EpochRecord]) -> None:
        if self._opened is None:
            self._opened = self._service.open(self._path, self.run)
        if self.run is None:
            self._opened.log_hyperparams(dict(self._settings))
            self.run = str(self._opened.version)
            self._reached = True
        for record in records:
            self._opened.log_metrics(record.numbers(), step=record.epoch)
            self.epoch, self._reached = record.epoch, True

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        # The packages raise many kinds of errors; each means the same here.
        except Exception as error:
            self._quiet_until = time.monotonic() + _PAUSE_SECONDS
            if not self._warned:
                self._warned = True
                reason = str(error).strip().partition("\n")[0]
                logger.warning(
                    "%s does not follow the run (%s: %s); the run goes on without, and tries again now and then. "
                    "--resume sends what is missing, also of a run that is finished",
                    self._service.title,
                    type(error).__name__,
                    reason,
                )


class Followers:
    """The services that follow a run, each told every epoch once, whatever happens in between.

    Args:
        path: The run folder.
        config: All settings; they are the hyperparameters.
        names: Keys of `SERVICES`.
        resume: Go on with the runs that the folder knows of, and tell what they have missed.

    Raises:
        ConfigError: A package is not installed.
    """

    def __init__(self, path: Path, config: RunConfig, names: Sequence[str], *, resume: bool = False) -> None:
        require_loggers(names)
        notes = _read_notes(path / NOTES) if resume and names else {}
        settings = config.model_dump(mode="json")
        self._notes = path / NOTES
        self._followers = {name: _Follower(SERVICES[name], path, settings, notes.get(name)) for name in names}

    def tell(self, history: Sequence[EpochRecord]) -> None:
        """Send the configuration if that is new, and of the records (lines of metrics.jsonl) those that are.

        Raises:
            RunError: What has been told cannot be noted in the run folder.
        """
        if not self._followers:
            return
        before = self._told()
        for follower in self._followers.values():
            follower.tell(history)
        if self._told() != before:
            with atomic_write(self._notes) as file:
                file.write(json.dumps(self._told(), indent=2).encode())

    def close(self, ending: Ending) -> None:
        """Send how the run ended."""
        for follower in self._followers.values():
            follower.close(ending)

    def _told(self) -> dict[str, dict[str, Any]]:
        known = self._followers.items()
        return {name: {"run": one.run, "epoch": one.epoch} for name, one in known if one.run is not None}


@contextmanager
def follow(path: Path, config: RunConfig, *, leads: bool, resume: bool) -> Iterator[Followers]:
    """Let the services of the settings follow a run to its end, however it ends.

    Args:
        path: The run folder.
        config: All settings.
        leads: Whether this process is the one that tells them; of the others they hear nothing.
        resume: Whether the run goes on.

    Raises:
        ConfigError: A package is not installed.
    """
    followers = Followers(path, config, config.logging.loggers if leads else (), resume=resume)
    ending: Ending = "failed"
    try:
        yield followers
        ending = "success"
    except KeyboardInterrupt:
        ending = "aborted"
        raise
    finally:
        followers.close(ending)


def _read_notes(path: Path) -> dict[str, _Note]:
    try:
        return TypeAdapter(dict[str, _Note]).validate_json(read_file(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        logger.warning("%s is damaged (%s): Weights & Biases and MLflow begin new runs", path, reason)
        return {}
