"""Settings, run folder, progress, closing table and report of the training commands."""

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from reidkit.cli.console import Display, log_to
from reidkit.cli.options import settings_of
from reidkit.errors import ConfigError, Interrupted, RunError
from reidkit.loop import Progress, inherited_settings
from reidkit.reporting import write_report
from reidkit.runs import (
    EpochRecord,
    RunConfig,
    RunFolder,
    default_recipe,
    latest_run_path,
    new_run_path,
    parse_assignment,
    read_recipe,
    read_toml,
    require_loggers,
    resolve_config,
    terminable,
)

__all__ = ["run_training"]

logger = logging.getLogger("reidkit")

RUNS = Path("runs")

_MAY_CHANGE = ("training.epochs", "training.device", "evaluation.batch_size", "logging.loggers")


def run_training(
    mode: str, train: Callable[..., list[EpochRecord]], options: Mapping[str, Any], *, default_target: str
) -> None:
    """Resolve settings, run `train`, print the closing table and write the report.

    `default_target` is the data set where neither a target nor a recipe was typed.
    """
    start = time.monotonic()
    with _stopped_outside_of_training(), terminable():
        run, config = _open(mode, options, default_target)
        with _shown(mode, run, options) as progress:
            if isinstance(progress, Display):
                progress.say(f"recipe {config.recipe.name}: {config.recipe.description}")
                progress.say(f"run folder {run.path}")
                if options["resume"] and not run.begun:
                    progress.say("the run to resume has no checkpoint yet: it starts from its beginning")
            history = train(config, run, data_root=options["data_root"], progress=progress, resume=options["resume"])
            if isinstance(progress, Display):
                _close(progress, history, run.path, start)


@contextmanager
def _stopped_outside_of_training() -> Iterator[None]:
    """End quietly if SIGTERM comes before there is a log, or after."""
    try:
        yield
    except Interrupted as stop:
        if _is_main():
            click.echo(f"{stop}; nothing was being trained. Type the same again to go on", err=True)
        raise SystemExit(stop.exit_code) from None


@contextmanager
def _shown(mode: str, run: RunFolder, options: Mapping[str, Any]) -> Iterator[Progress]:
    """Show and log a run in the main process; say how to continue when it is stopped."""
    if not _is_main():
        logger.setLevel(logging.ERROR)  # the main process says the rest
        yield Progress()
        return
    with Display(quiet=options["quiet"]) as display, log_to(run.log_file):
        try:
            yield display
        except KeyboardInterrupt as stop:
            logger.warning("%s", _farewell(stop, mode, run, options))
            raise SystemExit(stop.exit_code if isinstance(stop, Interrupted) else 130) from None


def _close(display: Display, history: list[EpochRecord], folder: Path, start: float) -> None:
    """The report and the closing table, which is shown even if the report cannot be written."""
    report, failure = None, None
    try:
        report = write_report(folder)
    except RunError as error:
        failure = error
    display.close_run(history, folder, report, time.monotonic() - start)
    if failure is not None:
        raise RunError(
            f"the run is finished and saved; only its report is missing: {failure}. Then write it by `reidkit report "
            f"{shlex.quote(str(folder))}`"
        ) from failure


def _farewell(stop: KeyboardInterrupt, mode: str, run: RunFolder, options: Mapping[str, Any]) -> str:
    """Say why a run stopped, how much of it is saved, and how to continue."""
    message = str(stop) or "stopped by Ctrl-C"
    if not (isinstance(stop, Interrupted) and stop.saved):
        message += "; its last checkpoint is saved" if run.begun else "; it has no checkpoint yet"
    command = ["reidkit", mode, "--resume", "--output", str(run.path)]
    if options["data_root"]:
        command += ["--data-root", str(options["data_root"])]
    return f"{message}. Go on with: {shlex.join(command)}"


def _is_main() -> bool:
    """Whether this process, of those that torchrun has started, writes and shows."""
    return os.environ.get("RANK", "0") == "0"


def _open(mode: str, options: Mapping[str, Any], default_target: str) -> tuple[RunFolder, RunConfig]:
    """A new run, or the one to go on with."""
    target = options["target"]
    if options["resume"]:
        return _resumed(mode, target or default_target, options)
    recipe = options["recipe"] or default_recipe(mode, target or default_target)
    base, typed = [read_recipe(recipe), {"data": {"target": target}} if target else {}], _typed(options)
    config = resolve_config([*base, *typed])
    if inherited := inherited_settings(config.backbone.pretrained):
        config = resolve_config([*base, inherited, *typed])
    if config.mode != mode:
        raise ConfigError(
            f"{recipe} is a recipe of `reidkit {config.mode}`, not of `reidkit {mode}`; see `reidkit recipes list`"
        )
    if not options["output"] and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            f"{os.environ['WORLD_SIZE']} processes are to work on one run: name its folder with --output, for all alike"
        )
    require_loggers(config.logging.loggers)
    path = options["output"] or new_run_path(RUNS, _run_name(mode, config.data.target))
    return (RunFolder.create(path, config) if _is_main() else RunFolder(path)), config


def _resumed(mode: str, target: str, options: Mapping[str, Any]) -> tuple[RunFolder, RunConfig]:
    """The run to go on with; what was typed may lengthen it and change where it computes and who follows."""
    path = options["output"] or latest_run_path(RUNS, _run_name(mode, target))
    run = RunFolder.open(path) if _is_main() else RunFolder(path)
    saved = run.read_config()
    if saved.mode != mode:
        raise RunError(
            f"{run.path} is a run of `reidkit {saved.mode}`, not of `reidkit {mode}`; go on with it by `reidkit "
            f"{saved.mode} --resume --output {shlex.quote(str(run.path))}`"
        )
    config = resolve_config([saved.model_dump(exclude_none=True), *_typed(options)])
    changed = [
        f"{key}: {old!r} -> {new!r}"
        for key, (old, new) in _differences(saved.model_dump(), config.model_dump()).items()
        if key not in _MAY_CHANGE
    ]
    if changed:
        raise RunError(
            f"{run.path} was started with other settings ({'; '.join(changed)}); resume without them, or start a new "
            "run without --resume"
        )
    if config.training.epochs < saved.training.epochs:
        raise RunError(
            f"{run.path} was started for {saved.training.epochs} epochs; --epochs {config.training.epochs} cannot "
            "shorten it"
        )
    require_loggers(config.logging.loggers)
    if _is_main():
        run.save_config(config)
    return run, config


def _typed(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers over the recipe, weakest first."""
    layers = [read_toml(options["config_file"])] if options["config_file"] else []
    return [*layers, settings_of(options), *map(parse_assignment, options["assignments"])]


def _run_name(mode: str, target: str) -> str:
    return f"{mode}-{Path(target).resolve().name if Path(target).is_dir() else target}"


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key, value in old.items():
        if isinstance(value, dict):
            found |= _differences(value, new[key], f"{prefix}{key}.")
        elif value != new[key]:
            found[f"{prefix}{key}"] = (value, new[key])
    return found
