"""Weights & Biases and MLflow log a run, through Lightning's loggers. A service that fails ends no run."""

import copy
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from reidkit.errors import ConfigError
from reidkit.runs.config import RunConfig
from reidkit.runs.records import EpochRecord
from reidkit.storage import atomic_write

__all__ = ["SERVICES", "STATE", "Loggers", "require_loggers"]

logger = logging.getLogger(__name__)

STATE = "loggers.json"
"""File in a run folder: for each service the run's id there, and the last epoch that it has."""

_ENDINGS = {"success": ("FINISHED", 0), "failed": ("FAILED", 1), "aborted": ("KILLED", 255)}  # MLflow's, W&B's
_PAUSE_SECONDS = 1800  # a service that failed is left alone for this long: its package itself tries for minutes


class _State(BaseModel):
    run: str
    epoch: int = -1


_STATES = TypeAdapter(dict[str, _State])


def _open_wandb(path: Path, run: str | None) -> Any:
    wandb, loggers = map(import_module, ("wandb", "pytorch_lightning.loggers"))
    # The console stays ours; a service out of reach must neither ask nor hold up a run that is done.
    settings = wandb.Settings(console="off", login_timeout=60, finish_timeout=60)
    project = os.environ.get("WANDB_PROJECT", "reidkit")
    return loggers.WandbLogger(path.resolve().name, path, id=run, project=project, settings=settings)


def _open_mlflow(path: Path, run: str | None) -> Any:
    mlflow, loggers = map(import_module, ("mlflow", "pytorch_lightning.loggers"))
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "reidkit")
    opened = loggers.MLFlowLogger(experiment, path.resolve().name, mlflow.get_tracking_uri(), run_id=run)
    if run is not None:
        opened.experiment.update_run(run, status="RUNNING")
    return opened


SERVICES: dict[str, tuple[Callable[[Path, str | None], Any], Callable[[Any, str], object]]] = {
    "mlflow": (_open_mlflow, lambda opened, ending: opened.finalize(_ENDINGS[ending][0])),
    "wandb": (_open_wandb, lambda opened, ending: opened.experiment.finish(exit_code=_ENDINGS[ending][1])),
}
"""Name of a package and its extra -> how to open a Lightning logger (run folder, id of the run there) and close it."""


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose packages are not installed.

    Raises:
        ConfigError: One is not; the extra that brings it is named.
    """
    for name in names:
        # A folder `wandb`, which wandb makes, is found too, but has no origin.
        found = {package: getattr(find_spec(package), "origin", None) for package in (name, "pytorch_lightning")}
        if missing := [package for package, origin in found.items() if origin is None]:
            raise ConfigError(
                f"logger {name!r} needs {', '.join(missing)}, not installed here: pip install 'reidkit[{name}]', or go "
                "without it (--set logging.loggers=[])"
            )


class Loggers:
    """The services that log a run: each epoch once, also after failures, and how the run ended.

    Args:
        path: The run folder.
        config: All settings: they name the services, and are the hyperparameters.
        is_main: Whether this process logs.
        resume: Go on with the services' runs in the folder's `loggers.json`, and log what they lack.

    Raises:
        ConfigError: A package is not installed.
    """

    def __init__(self, path: Path, config: RunConfig, *, is_main: bool = True, resume: bool = False) -> None:
        names = config.logging.loggers if is_main else ()
        require_loggers(names)
        self._path, self._config = path, config
        self._states = _read_states(path / STATE) if resume and names else {}
        self._opened: dict[str, Any] = {}
        self._quiet_until: dict[str, float] = dict.fromkeys(names, 0.0)

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ending = "success" if kind is None else "aborted" if issubclass(kind, KeyboardInterrupt) else "failed"
        for name, opened in self._opened.items():
            self._try(name, SERVICES[name][1], opened, ending)

    def log(self, history: Sequence[EpochRecord]) -> None:
        """Log the settings, and the metrics of the epochs (lines of metrics.jsonl) that a service lacks.

        Raises:
            RunError: The state cannot be written to the run folder.
        """
        before = copy.deepcopy(self._states)
        for name in self._quiet_until:
            self._try(name, self._send, name, history)
        if self._states != before:
            with atomic_write(self._path / STATE) as file:
                file.write(_STATES.dump_json(self._states))

    def _send(self, name: str, history: Sequence[EpochRecord]) -> None:
        state = self._states.get(name)
        new = [record for record in history if state is None or record.epoch > state.epoch]
        if state and not new:
            return
        if name not in self._opened:
            self._opened[name] = SERVICES[name][0](self._path, state.run if state else None)
        if state is None:
            self._opened[name].log_hyperparams(self._config.model_dump(mode="json"))
            state = self._states[name] = _State(run=str(self._opened[name].version))
        for record in new:
            self._opened[name].log_metrics(record.numbers(), step=record.epoch)
            state.epoch = record.epoch

    def _try(self, name: str, call: Callable[..., object], *arguments: Any) -> None:
        """Call a service unless it has failed a short time ago; name its first failure."""
        if time.monotonic() < self._quiet_until[name]:
            return
        try:
            call(*arguments)
        except Exception as error:  # the packages raise many kinds; each means the same here
            if not self._quiet_until[name]:
                logger.warning(
                    "%s does not follow the run (%s: %s); the run goes on without, and tries again now and then. "
                    "--resume sends what is missing, also of a run that is finished",
                    *(name, type(error).__name__, str(error).strip().partition("\n")[0]),
                )
            self._quiet_until[name] = time.monotonic() + _PAUSE_SECONDS


def _read_states(path: Path) -> dict[str, _State]:
    try:
        return _STATES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged (%s): wandb and mlflow begin new runs", path, str(error).partition("\n")[0])
        return {}
