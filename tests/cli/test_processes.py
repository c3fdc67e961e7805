"""The command under torchrun: one run of several processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from tests.cli.test_commands import reidkit
from tests.tiny import SETTINGS

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def settings_file(folder: Path, epochs: int) -> Path:
    settings = {name: section for name, section in SETTINGS.items() if name != "recipe"}
    settings["training"] = SETTINGS["training"] | {"epochs": epochs}
    path = folder / "settings.toml"
    path.write_text(tomli_w.dumps(settings))
    return path


def start(people: Path, folder: Path, epochs: int) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = ["-m", "reidkit", "usl", "--target", str(people), "--config", str(settings_file(folder, epochs))]
    output = ["--output", str(folder / "run")]
    return subprocess.Popen([*TORCHRUN, *command, *output], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_one_run_of_two_processes_is_written_and_shown_once(people: Path, tmp_path: Path) -> None:
    process = start(people, tmp_path, 2)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told[-3000:]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert (tmp_path / "run" / "log.txt").read_text().count("epoch 2/2") == 1
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_is_named(people: Path, tmp_path: Path) -> None:
    process = start(people, tmp_path, 100_000)
    deadline = time.monotonic() + 200
    while not (tmp_path / "run" / "checkpoints" / "last.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    victim = next(
        pid
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    )
    killed = time.monotonic()
    os.kill(int(victim), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - killed < 60
    assert "Signal 9 (SIGKILL)" in told


def test_several_processes_need_one_folder(monkeypatch: pytest.MonkeyPatch, people: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = reidkit("usl", "--target", str(people))
    assert result.exit_code == 2
    assert "2 processes are to work on one run: name its folder with --output" in result.output
