"""Runs that are killed and resumed equal uninterrupted runs, bit for bit."""

import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from reidkit.runs.checkpoints import write_checkpoint
from tests.faults.campaign import MODES, Campaign, differences, leftovers, signals
from tests.faults.commands import TimedSignal


@pytest.fixture(params=["usl", "pretrain"])
def campaign(request: pytest.FixtureRequest, usl: Campaign, tmp_path: Path) -> Campaign:
    campaign = usl if request.param == "usl" else Campaign(request.param, tmp_path)
    campaign.seconds = campaign.run(tmp_path / "warm").seconds  # numba's kernels are compiled now
    return campaign


def test_a_run_survives_two_kills_and_a_sigterm(campaign: Campaign, tmp_path: Path) -> None:
    stops = [
        TimedSignal(number, share * campaign.seconds)
        for number, share in ((signal.SIGKILL, 0.6), (signal.SIGTERM, 0.5), (signal.SIGKILL, 0.3))
    ]
    stages: Counter[str] = Counter()
    assert campaign.complete(tmp_path / "run", stops, stages) == []
    assert stages.total() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_runs_survive_kills_at_any_moment(tmp_path: Path, mode: str) -> None:
    """200 kills over all modes."""
    result = Campaign(mode, tmp_path).interrupt(200 // len(MODES), np.random.default_rng(1))
    assert result.problems == []
    assert result.stages.total() >= 200 // len(MODES)
    assert result.runs >= 1


def folder_of(path: Path, weight: float) -> Path:
    """A run of one metric and one weight."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "metrics.jsonl").write_text(f'{{"epoch": 0, "mAP": 1.5, "seconds": {{"evaluate": {weight}}}}}\n')
    for name in ("last", "best"):
        write_checkpoint(path / "checkpoints", name, {"model": {"weight": torch.tensor([1.0, weight])}})
    np.savez(path / "labels.npz", labels=np.arange(3))
    return path


def test_differences_are_found(tmp_path: Path) -> None:
    one, same = folder_of(tmp_path / "one", 2.0), folder_of(tmp_path / "same", 2.0)
    assert differences(one, same) == []
    other = folder_of(tmp_path / "other", float(np.nextafter(np.float32(2), np.float32(3))))
    assert differences(one, other) == ["best/model/weight differs", "last/model/weight differs"]
    np.savez(same / "labels.npz", labels=np.array([0, 1, -1]))
    (same / "metrics.jsonl").write_text('{"epoch": 0, "mAP": 1.6, "seconds": {}}\n')
    np.savez(same / "more.npz", x=np.ones(1))
    assert differences(one, same) == ["labels.npz/labels differs", "metrics/0/mAP differs", "more.npz/x differs"]


def test_temporary_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for name in (".lock", "labels/epoch_001.npz", "labels/.epoch_002.npz.7.tmp", "half.tmp", ".hidden"):
        (tmp_path / name).touch()
    assert {path.name for path in leftovers(tmp_path)} == {".epoch_002.npz.7.tmp", "half.tmp", ".hidden"}


def test_signals_are_drawn_at_any_moment() -> None:
    drawn = [stop for stop, _ in zip(signals(np.random.default_rng(0), 2.0), range(200), strict=False)]
    assert 20 < sum(stop.signal == signal.SIGTERM for stop in drawn) < 60
    assert {stop.signal for stop in drawn} == {signal.SIGTERM, signal.SIGKILL}
    assert np.histogram([stop.seconds for stop in drawn], bins=4, range=(0, 2))[0].min() > 30
