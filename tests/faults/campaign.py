"""Runs that are stopped at random moments and resumed, held against one that nothing befell."""

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
from tests.faults.commands import Blow, Mishap, Outcome, reidkit
from tests.tiny import SETTINGS, tiny_people

__all__ = ["MODES", "Campaign", "Tally", "blows", "differences", "leftovers"]

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
"""Settings over those of `tests.tiny`; what follows a hyphen is a strategy of the mode."""


class Tally(NamedTuple):
    """What became of the runs of a mode."""

    runs: int
    """Runs that were brought to their end."""
    stages: "Counter[str]"
    """Signal and stage -> how often a run was stopped by that signal in that stage."""
    problems: list[str]
    """Whatever was not as it must be."""


class Campaign:
    """One mode: its undisturbed run, and others beside it.

    Args:
        mode: A key of `MODES`.
        scratch: A folder; data, runs and caches lie there.
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

    def run(self, folder: Path, *extra: str, blow: Blow | None = None, mishap: Mishap | None = None) -> Outcome:
        """Begin the run of a folder, or go on with it."""
        command = [self.mode.partition("-")[0], "--output", str(folder), *extra]
        if (folder / "config.toml").exists():
            command.append("--resume")
        else:
            data = "--data" if self.mode == "pretrain" else "--dataset" if self.mode == "supervised" else "--target"
            command += [data, str(self.people), "--config", str(self._config)]
            command += ["--source", str(self.scratch / "others")] if self.mode.startswith("uda") else []
        return reidkit(command, folder.with_name(f"{folder.name}-process"), blow=blow, mishap=mishap)

    def strike(self, kills: int, rng: np.random.Generator) -> Tally:
        """Bring runs to their end, each stopped as often as it happens, until they were stopped `kills` times."""
        tally = Tally(0, Counter(), [])
        again = self.scratch / f"{self.mode}-again"
        self.seconds = self.run(again).seconds  # by now numba's kernels are compiled
        tally.problems.extend(f"undisturbed: {problem}" for problem in differences(again, self.whole))
        while tally.stages.total() < kills:
            folder = self.scratch / f"{self.mode}-{tally.runs}"
            found = self.live(folder, blows(rng, self.seconds), tally.stages)
            tally.problems.extend(f"{folder.name}: {problem}" for problem in found)
            tally = tally._replace(runs=tally.runs + 1)
            for path in (folder, folder.with_name(f"{folder.name}-process")):
                shutil.rmtree(path)
        return tally

    def live(self, folder: Path, blows: Iterable[Blow], stages: "Counter[str]") -> list[str]:
        """One run, from its first beginning to its end.

        Args:
            folder: Of the run; nothing is there.
            blows: One for each time that it is begun or resumed, as long as there are any.
            stages: Counts the stages in which it was stopped.

        Returns:
            What was wrong with it.
        """
        for blow in chain[Blow | None](blows, repeat(None)):
            new = not folder.exists()
            outcome = self.run(folder, blow=blow)
            if new and not outcome.struck:
                self.seconds = outcome.seconds  # the machine may be less busy than it was
            if blow is not None and outcome.struck:
                stages[f"{blow.signal.name} {outcome.stage}"] += 1
            if problem := _problem(outcome, blow):
                return [f"{problem}, at {outcome.stage} after {blow}: {outcome.output}"]
            if outcome.code == 0:
                break
        return [*differences(folder, self.whole), *(f"{path} was left" for path in leftovers(folder))]


def blows(rng: np.random.Generator, seconds: float) -> Iterator[Blow]:
    """Without end: SIGKILL, once in five SIGTERM, at any moment of so many seconds."""
    while True:
        yield Blow(signal.SIGTERM if rng.random() < 0.2 else signal.SIGKILL, rng.uniform(0, seconds))


def _problem(outcome: Outcome, blow: Blow | None) -> str:
    """What is wrong with the end of a command; empty if nothing is."""
    if "Traceback" in outcome.output:
        return "a traceback"
    sent = blow.signal if blow and outcome.struck else None
    if outcome.code == 0 or (sent == signal.SIGKILL and outcome.code == -signal.SIGKILL):
        return ""
    if sent == signal.SIGTERM:
        how = "Go on with: reidkit", "nothing was being trained"
        told = "stopped by SIGTERM" in outcome.output and any(words in outcome.output for words in how)
        if outcome.code == 128 + signal.SIGTERM and told:
            return ""
        if outcome.code == -signal.SIGTERM and outcome.stage in ("start", "end"):  # before or after the command
            return ""
    return f"exit code {outcome.code}"


def differences(folder: Path, other: Path) -> list[str]:
    """Where two runs differ: figures (but for times), checkpoints and arrays, bit for bit."""
    ours, theirs = _contents(folder), _contents(other)
    return [f"{name} differs" for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]


def leftovers(folder: Path) -> list[Path]:
    """Files that nobody will read any more."""
    return [path for path in folder.rglob(".*") if path.name != ".lock"] + [*folder.rglob("[!.]*.tmp")]


def _contents(folder: Path) -> dict[str, Any]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    contents = dict(_flat("metrics", [json.loads(line) for line in lines]))
    for path in (folder / "checkpoints").glob("*.pt"):
        if path.name != "previous.pt":  # of the last epoch but one, or of the same one before its end
            contents |= _flat(path.stem, read_checkpoint(path))
    for path in folder.rglob("*.npz"):
        with np.load(path) as arrays:
            contents |= _flat(str(path.relative_to(folder)), dict(arrays))
    return contents


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested values by their path, but for times and settings; arrays as type, shape and bytes."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("seconds", "config"):  # a run may have been lengthened since its best epoch
                yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}/{index}", inner)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        yield name, (str(array.dtype), array.shape, array.tobytes())
    else:
        yield name, value
