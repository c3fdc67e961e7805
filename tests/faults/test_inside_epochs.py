"""A run that is stopped after any step of an epoch, or between two files at its end, continues from there."""

from pathlib import Path
from typing import Any

import pytest

from reidkit.errors import Interrupted
from reidkit.pretrain import train_pretrain
from reidkit.runs import RunConfig, RunFolder
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.faults.campaign import MODES, differences
from tests.injected_faults import Stopping
from tests.tiny import tiny_config, tiny_run

TRAIN: dict[str, Any] = {
    "usl": train_usl,
    "uda": train_uda,
    "uda-joint": train_uda,
    "supervised": train_supervised,
    "pretrain": train_pretrain,
}


def config_of(mode: str, people: Path, others: Path) -> RunConfig:
    name = mode.partition("-")[0]
    layers = {"backbone": {"depth": 2, "drop_path": 0.2}, "training": {"iterations": 4}} | MODES[mode]
    return tiny_config(people, mode=name, data={"target": str(people), "source": str(others)}, **layers)


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_inside_an_epoch_changes_nothing(people: Path, others: Path, tmp_path: Path, mode: str) -> None:
    config, train = config_of(mode, people, others), TRAIN[mode]
    whole, run = (tiny_run(tmp_path / name, config) for name in ("whole", "run"))
    train(config, whole)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM: epoch 2 is saved up to step 2 of 4"):
        train(config, run, progress=Stopping(6))
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM: epoch 2 is saved up to step 3 of 4"):
        train(config, run, progress=Stopping(1), resume=True)
    train(config, run, resume=True)
    assert differences(run.path, whole.path) == []


def test_the_seconds_of_an_epoch_are_those_of_all_its_parts(people: Path, others: Path, tmp_path: Path) -> None:
    config = config_of("usl", people, others)
    run = tiny_run(tmp_path / "run", config)
    with pytest.raises(Interrupted):
        train_usl(config, run, progress=Stopping(6))
    state = run.load_checkpoint()
    assert state is not None
    saved = state["partial"]["seconds"]["train"]
    assert saved > 0
    assert train_usl(config, run, resume=True)[2].seconds["train"] > saved


def test_a_half_finished_epoch_of_the_first_versions_goes_on(people: Path, others: Path, tmp_path: Path) -> None:
    config = config_of("usl", people, others)
    whole, run = (tiny_run(tmp_path / folder, config) for folder in ("whole", "run"))
    train_usl(config, whole)
    with pytest.raises(Interrupted):
        train_usl(config, run, progress=Stopping(6))
    state = run.load_checkpoint()
    assert state is not None
    partial = state["partial"]
    progress = partial.pop("progress")
    partial["result"] = [progress[name] for name in ("loss", "steps", "skipped", "images")]
    partial["record"] = {"epoch": partial["epoch"], "labels": "clusters"}
    partial["record"] |= {name: partial.pop(name) for name in ("seconds", "quality")}
    run.save_checkpoint("last", {name: value for name, value in state.items() if name not in ("format", "reidkit")})
    train_usl(config, run, resume=True)
    assert differences(run.path, whole.path) == []


class _KilledError(BaseException):
    """Substitute for a kill."""


@pytest.mark.parametrize(("name", "epoch"), [("best", 0), ("last", 0), ("source", 1), ("last", 1)])
def test_a_kill_between_two_files_of_an_epoch_loses_neither(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, epoch: int
) -> None:
    config, save = config_of("uda", people, others), RunFolder.save_checkpoint
    whole, run = (tiny_run(tmp_path / folder, config) for folder in ("whole", "run"))
    train_uda(config, whole)

    def kill(self: RunFolder, written: str, state: dict[str, Any]) -> None:
        save(self, written, state)
        if written == name and "partial" not in state and state["history"][-1]["epoch"] == epoch:
            raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", kill)
        with pytest.raises(_KilledError):
            train_uda(config, run)
    train_uda(config, run, resume=True)
    assert differences(run.path, whole.path) == []
