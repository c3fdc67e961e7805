"""Runs that are stopped at random moments and resumed, compared with an uninterrupted run."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tomli_w
import torch

from reidkit.backbones import read_checkpoint
from tests.faults.commands import Fault, Outcome, TimedSignal, reidkit
from tests.tiny import SETTINGS, tiny_people

__all__ = ["MODES", "Campaign", "CampaignResult", "differences", "leftovers", "signals"]

_SMALL: dict[str, Any] = {"batch_size": 16, "instances": 2, "iterations": 4, "schedule": {"warmup_epochs": 0}}
_TRAINING = {"epochs": 3, "iterations": 4, "save_minutes": 1e-3}  # saved inside every epoch too

MODES: dict[str, dict[str, Any]] = {
    "usl": {"warmup": {"epochs": 1}},
    "uda": {"supervised": _SMALL | {"epochs": 1}, "uda": {"strategy": "finetune"}},
    "uda-joint": {"supervised": _SMALL | {"epochs": 1}, "uda": {"strategy": "joint"}},
    "supervised": {"supervised": _SMALL},
    "pretrain": {
        "sampler": {"batch_size": 8, "instances": 1},
        "pretrain": {"outputs": 24, "hidden": 16, "bottleneck": 8, "iterations": 4, "warmup_epochs": 1},
        "crops": {"local_crops": 2, "local_size": [16, 16]},
    },
}
"""Settings laid over those of `tests.tiny`; the part after a hyphen is a strategy of the mode."""


class CampaignResult(NamedTuple):
    """Result of the interrupted runs of a mode."""

    runs: int
    """Number of runs, each resumed to its end."""
    stages: "Counter[str]"
    """Signal and stage -> number of times that the signal stopped a run in that stage."""
    problems: list[str]
    """Descriptions of the differences and errors found."""


class Campaign:
    """One mode: its uninterrupted run, and interrupted runs of the same settings.

    Args:
        mode: A key of `MODES`.
        scratch: Folder of data, runs and caches.
    """

    def __init__(self, mode: str, scratch: Path) -> None:
        self.mode, self.scratch = mode, scratch
        self.people = scratch / "people"
        if not self.people.exists():
            tiny_people(self.people)
            tiny_people(scratch / "others", train_identities=6, seed=9)
        self._config = scratch / f"{mode}.toml"
        training = {"training": SETTINGS["training"] | _TRAINING}
        layers = SETTINGS | {"backbone": SETTINGS["backbone"] | {"depth": 2, "drop_path": 0.2}} | MODES[mode] | training
        self._config.write_text(tomli_w.dumps(layers))
        self.whole = scratch / f"{mode}-whole"
        outcome = self.run(self.whole)
        assert outcome.code == 0, outcome.output
        self.seconds = outcome.seconds

    def run(self, folder: Path, *extra: str, stop: TimedSignal | None = None, fault: Fault | None = None) -> Outcome:
        """Start the run of a folder, or resume it."""
        command = [self.mode.partition("-")[0], "--output", str(folder), *extra]
        if (folder / "config.toml").exists():
            command.append("--resume")
        else:
            data = "--data" if self.mode == "pretrain" else "--dataset" if self.mode == "supervised" else "--target"
            command += [data, str(self.people), "--config", str(self._config)]
            command += ["--source", str(self.scratch / "others")] if self.mode.startswith("uda") else []
        return reidkit(command, folder.with_name(f"{folder.name}-process"), stop=stop, fault=fault)

    def interrupt(self, kills: int, rng: np.random.Generator) -> CampaignResult:
        """Interrupt and resume runs to their end, until `kills` signals have stopped one."""
        result = CampaignResult(0, Counter(), [])
        again = self.scratch / f"{self.mode}-again"
        self.seconds = self.run(again).seconds  # numba's kernels are compiled now
        result.problems.extend(f"undisturbed: {problem}" for problem in differences(again, self.whole))
        while result.stages.total() < kills:
            folder = self.scratch / f"{self.mode}-{result.runs}"
            found = self.complete(folder, signals(rng, self.seconds), result.stages)
            result.problems.extend(f"{folder.name}: {problem}" for problem in found)
            result = result._replace(runs=result.runs + 1)
            for path in (folder, folder.with_name(f"{folder.name}-process")):
                shutil.rmtree(path)
        return result

    def complete(self, folder: Path, signals: Iterable[TimedSignal], stages: "Counter[str]") -> list[str]:
        """Run a command to its end, with a signal each time that it is started or resumed.

        Args:
            folder: New run folder.
            signals: One for each start; when they are used up, the run ends without one.
            stages: Counter of the stages in which the run was stopped; updated.

        Returns:
            Descriptions of the problems.
        """
        for stop in chain[TimedSignal | None](signals, repeat(None)):
            new = not folder.exists()
            outcome = self.run(folder, stop=stop)
            if new and not outcome.signalled:
                self.seconds = outcome.seconds  # the load of the machine varies
            if stop is not None and outcome.signalled:
                stages[f"{stop.signal.name} {outcome.stage}"] += 1
            if problem := _problem(outcome, stop):
                return [f"{problem}, at {outcome.stage} after {stop}: {outcome.output}"]
            if outcome.code == 0:
                break
        return [*differences(folder, self.whole), *(f"{path} was left" for path in leftovers(folder))]


def signals(rng: np.random.Generator, seconds: float) -> Iterator[TimedSignal]:
    """Draw signals without end: one in five SIGTERM, else SIGKILL, uniformly in the first `seconds`."""
    while True:
        yield TimedSignal(signal.SIGTERM if rng.random() < 0.2 else signal.SIGKILL, rng.uniform(0, seconds))


def _problem(outcome: Outcome, stop: TimedSignal | None) -> str:
    """Describe the problem with the end of a command; empty if there is none."""
    if "Traceback" in outcome.output:
        return "a traceback"
    sent = stop.signal if stop and outcome.signalled else None
    if outcome.code == 0 or (sent == signal.SIGKILL and outcome.code == -signal.SIGKILL):
        return ""
    if sent == signal.SIGTERM:
        remedies = "Go on with: reidkit", "nothing was being trained"
        explained = "stopped by SIGTERM" in outcome.output and any(words in outcome.output for words in remedies)
        if outcome.code == 128 + signal.SIGTERM and explained:
            return ""
        if outcome.code == -signal.SIGTERM and outcome.stage in ("start", "end"):  # before or after the command
            return ""
    return f"exit code {outcome.code}"


def differences(folder: Path, other: Path) -> list[str]:
    """Names of the values in which two runs differ: metrics (without times), checkpoints and arrays, bit for bit."""
    ours, theirs = _contents(folder), _contents(other)
    return [f"{name} differs" for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that a finished run should not contain."""
    return [path for path in folder.rglob(".*") if path.name != ".lock"] + [*folder.rglob("[!.]*.tmp")]


def _contents(folder: Path) -> dict[str, Any]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    contents = dict(_flat("metrics", [json.loads(line) for line in lines]))
    for path in (folder / "checkpoints").glob("*.pt"):
        if path.name != "previous.pt":  # of the epoch before, or of the same epoch before its end
            contents |= _flat(path.stem, read_checkpoint(path))
    for path in folder.rglob("*.npz"):
        with np.load(path) as arrays:
            contents |= _flat(str(path.relative_to(folder)), dict(arrays))
    return contents


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested values by their path, without times and settings; arrays as type, shape and bytes."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("seconds", "config"):  # `epochs` may have grown since the best epoch
                yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}/{index}", inner)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        yield name, (str(array.dtype), array.shape, array.tobytes())
    else:
        yield name, value
