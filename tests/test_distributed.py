"""Several processes train as one: gloo, on the CPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reidkit.backbones import read_checkpoint
from reidkit.distributed import ProcessGroup
from reidkit.errors import TrainingError
from reidkit.loop import EpochProgress, create_fabric

WORKER = Path(__file__).with_name("process_worker.py")

Done = subprocess.CompletedProcess[str]


def start(folder: Path, processes: int, target: Path, source: Path, mode: str, *options: str) -> Done:
    """Run `process_worker.py` in a number of processes."""
    for path in folder.glob("left_*"):  # of a run that was stopped
        path.unlink()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(WORKER)]
    arguments = [str(folder), str(target), str(source), mode, *options]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=240)


def train(folder: Path, processes: int, target: Path, source: Path, mode: str, *options: str) -> dict[str, Any]:
    """What the process that leads wrote; all have left their process group in order."""
    done = start(folder, processes, target, source, mode, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in folder.glob("left_*")} == {f"left_{rank}" for rank in range(processes)}
    assert "destroy_process_group" not in done.stderr
    result: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return result


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["usl", "supervised", "uda-joint", "pretrain"])
def test_two_and_four_processes_train_as_one(people: Path, others: Path, tmp_path: Path, mode: str) -> None:
    """Losses within 1e-4 over three epochs, the clusterings included, and the same labels."""
    runs = {count: train(tmp_path / str(count), count, people, others, mode) for count in (1, 2, 4)}
    for count in (2, 4):
        for one, several in zip(runs[1]["losses"], runs[count]["losses"], strict=True):
            assert several == pytest.approx(one, abs=1e-4)
        assert runs[count]["labels"] == runs[1]["labels"]
        assert runs[count]["images"] == runs[1]["images"]


def test_two_processes_share_the_clusterings_of_a_run(people: Path, others: Path, tmp_path: Path) -> None:
    one, two = (train(tmp_path / str(count), count, people, others, "usl", "--epochs", "1") for count in (1, 2))
    assert two["labels"] == one["labels"]
    assert (tmp_path / "1" / "clustered_0").read_text() == "1 "
    assert [(tmp_path / "2" / f"clustered_{rank}").read_text() for rank in (0, 1)] == ["2 ", "2 "]


def test_two_processes_pretrain_as_one(people: Path, others: Path, tmp_path: Path) -> None:
    """Over 21 steps."""
    one, two = (train(tmp_path / str(count), count, people, others, "pretrain") for count in (1, 2))
    for single, both in zip(one["losses"], two["losses"], strict=True):
        assert both == pytest.approx(single, abs=1e-4)


@pytest.mark.slow
def test_two_processes_add_up_the_parts_of_a_batch_as_one(people: Path, others: Path, tmp_path: Path) -> None:
    one, two = (train(tmp_path / str(count), count, people, others, "pretrain-parts") for count in (1, 2))
    for single, both in zip(one["losses"], two["losses"], strict=True):
        assert both == pytest.approx(single, abs=1e-4)


def stopped(folder: Path, processes: int, people: Path, others: Path, *options: str) -> None:
    """Train up to step 3 of epoch 2, by an order that only the process that leads has heard."""
    done = start(folder, processes, people, others, "usl", "--stop", "10", *options)
    assert done.returncode != 0
    partial = read_checkpoint(folder / "checkpoints" / "last.pt")["partial"]
    assert (partial["epoch"], EpochProgress(**partial["progress"]).done) == (2, 3)
    assert len(partial["torch"]) == processes


@pytest.mark.slow
def test_two_processes_with_drop_path_go_on_inside_an_epoch_as_if_never_stopped(
    people: Path, others: Path, tmp_path: Path
) -> None:
    """Each draws its own paths, and goes on drawing them."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    settings = ("--drop-path", "0.5", "--epochs", "2")
    expected = train(whole, 2, people, others, "usl", *settings)
    stopped(run, 2, people, others, *settings)
    assert train(run, 2, people, others, "usl", "--resume", *settings) == expected
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.pt")["model"] for folder in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on_inside_an_epoch(
    people: Path, others: Path, tmp_path: Path, before: int, after: int
) -> None:
    expected = train(tmp_path / "whole", 1, people, others, "usl", "--epochs", "2")
    stopped(tmp_path / "run", before, people, others, "--epochs", "2")
    found = train(tmp_path / "run", after, people, others, "usl", "--resume", "--epochs", "2")
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-4)
    assert found["labels"] == expected["labels"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "rank", "how"),
    [
        ("extract", 1, "kill"),
        ("label", 0, "kill"),  # one process clusters, the other waits for it
        ("save", 0, "kill"),
        ("extract", 0, "error"),
        ("train", 1, "error"),
        ("save", 0, "error"),
    ],
)
def test_a_process_that_ends_anywhere_ends_the_others_and_is_named(
    people: Path, others: Path, tmp_path: Path, place: str, rank: int, how: str
) -> None:
    done = start(tmp_path, 2, people, others, "usl", "--fail", place, str(rank), how)
    assert done.returncode != 0
    assert time.time() - float((tmp_path / "died").read_text()) < 60
    cause = done.stderr.partition("Root Cause")[2]
    assert f"(local_rank: {rank})" in cause
    told = "Signal 9 (SIGKILL)" if how == "kill" else f"Error: process {rank} cannot {place}; free some space"
    assert told in (cause if how == "kill" else done.stderr)


def test_one_process_is_a_team_of_its_own() -> None:
    team = ProcessGroup.of_fabric(create_fabric("cpu", "32"))
    assert (team.rank, team.size, team.is_main) == (0, 1, True)
    np.testing.assert_array_equal(team.batch_rows(5), np.arange(5))
    np.testing.assert_array_equal(team.batch_rows(6, two_domains=True), np.arange(6))
    outputs = torch.randn(3, 2)
    assert team.gather_batch(outputs, 3) is outputs
    assert team.broadcast("label") == "label"
    assert team.any_rank(True)
    assert not team.any_rank(False)
    assert team.all_reduce(outputs) is outputs
    team.sum_gradients(nn.Linear(2, 2))
    team.barrier()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("halves", [False, True])
def test_shares_are_a_partition_with_a_part_of_either_half(size: int, halves: bool) -> None:
    shares = [ProcessGroup(None, rank, size).batch_rows(22, two_domains=halves) for rank in range(size)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(22))
    assert all((np.diff(share) > 0).all() for share in shares)
    if halves:
        assert all((share < 11).sum() * 2 == len(share) for share in shares)


def test_a_batch_smaller_than_the_team_is_refused() -> None:
    with pytest.raises(TrainingError, match="a batch of 3 images has too few for 4 processes; start fewer"):
        ProcessGroup(None, 0, 4).batch_rows(3)
