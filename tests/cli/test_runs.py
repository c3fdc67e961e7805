"""What a training command does when it is stopped, refused or left without disk; the training itself is a fake."""

import logging
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from reidkit.cli import cli
from reidkit.cli.console import log_to
from reidkit.errors import RunError
from reidkit.loop import Progress
from reidkit.runs import EpochRecord, RunConfig, RunFolder
from reidkit.runs.interruption import Interruption
from tests.injected_faults import child
from tests.tiny import tiny_config

Train = Callable[[RunFolder], None]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands write into a folder of their own; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)
    assert not logger.handlers


def reidkit(*arguments: str) -> tuple[int, str]:
    """Exit code and output in one line."""
    done = CliRunner().invoke(cli, arguments)
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Train], None]:
    """Let a function stand in for USL's training of one epoch."""

    def replace(work: Train) -> None:
        def train(
            config: RunConfig, run: RunFolder, *, data_root: Path | None, progress: Progress, resume: bool
        ) -> list[EpochRecord]:
            record = EpochRecord(epoch=0, scores={"mAP": 1.0, "rank1": 2.0, "rank5": 3.0, "rank10": 4.0})
            work(run)
            run.save_checkpoint("last", {"history": [record.as_line()]})
            run.restore_history([record])
            return [record]

        monkeypatch.setattr("reidkit.usl.train_usl", train)

    return replace


@pytest.mark.parametrize(("number", "name", "code"), [(15, "SIGTERM", 143), (2, "Ctrl-C", 130)])
def test_a_loop_that_is_asked_to_stop_says_what_it_saved_and_how_to_go_on(
    training: Callable[[Train], None], number: int, name: str, code: int
) -> None:
    def work(run: RunFolder) -> None:
        with Interruption() as interruption:
            signal.raise_signal(number)
            assert interruption.requested
            run.save_checkpoint("last", {"history": []})
            interruption.stop("epoch 3 is saved up to step 120 of 200")

    training(work)
    told = (
        f"stopped by {name}: epoch 3 is saved up to step 120 of 200. Go on with: reidkit usl --resume --output 'a run' "
        "--data-root data"
    )
    stopped, output = reidkit("usl", "--output", "a run", "--data-root", "data", "--quiet")
    assert stopped == code
    assert told in output
    assert told in Path("a run/log.txt").read_text()


@pytest.mark.parametrize(("number", "name", "code"), [(15, "SIGTERM", 143), (2, "Ctrl-C", 130)])
def test_outside_the_loop_a_command_stops_at_once(
    training: Callable[[Train], None], number: int, name: str, code: int
) -> None:
    training(lambda run: signal.raise_signal(number))
    stopped, output = reidkit("usl")
    assert stopped == code
    assert f"stopped by {name}; it has no checkpoint yet. Go on with: reidkit usl --resume" in output
    training(lambda run: None)
    done, output = reidkit("usl", "--resume")
    assert done == 0
    assert "the run to resume has no checkpoint yet: it starts from its beginning" in output
    training(lambda run: signal.raise_signal(number))
    assert f"stopped by {name}; its last checkpoint is saved. Go on" in reidkit("usl", "--resume")[1]


def test_a_folder_in_use_is_refused() -> None:
    def work(ready: Callable[[], None]) -> None:
        run = RunFolder.create(Path("run"), tiny_config("synthetic"))
        ready()
        time.sleep(60)
        run.close()

    with child(work):
        for more in ([], ["--resume"]):
            code, output = reidkit("usl", "--output", "run", *more)
            assert code == 2
            assert "another process writes into run; wait until it has ended" in output


def checkpoint_of_format_1(run: Path) -> None:
    torch.save({"format": 1, "reidkit": "0.1"}, run / "checkpoints" / "last.pt")


@pytest.mark.parametrize(
    ("command", "damage", "message"),
    [
        ("uda", lambda run: None, "run is a run of `reidkit usl`, not of `reidkit uda`; go on with it by `reidkit usl"),
        ("usl", lambda run: (run / "config.toml").write_text("mode = "), "config.toml cannot be read"),
        ("usl", lambda run: (run / "config.toml").write_text("x = 1"), "settings that reidkit"),
        ("usl", lambda run: (run / "config.toml").unlink(), "is not a run folder"),
        ("usl --eps 0.3", lambda run: None, "clustering.eps: 0.5 -> 0.3"),
        ("usl", checkpoint_of_format_1, "has format 1, this version reads 2"),
        ("usl", lambda run: None, "absent"),  # the data set
    ],
)
def test_what_cannot_be_resumed_is_refused_clearly(
    people: Path, command: str, damage: Callable[[Path], None], message: str
) -> None:
    gone = damage is not checkpoint_of_format_1
    run = RunFolder.create(Path("run"), tiny_config("absent" if gone else people))
    run.close()
    damage(run.path)
    code, output = reidkit(*command.split(), "--resume", "--output", "run")
    assert code == 2
    assert message in output


def test_a_report_that_finds_no_room_does_not_hide_the_result(training: Callable[[Train], None]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def work(run: RunFolder) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))

    training(work)
    try:
        code, output = reidkit("usl", "--output", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert code == 2
    assert "before training" in output
    for words in ("the run is finished and saved; only its report is missing", "Free some space", "reidkit report run"):
        assert words in output


def test_a_log_on_a_full_disk_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    logger: Any = logging.getLogger("reidkit")
    with log_to(Path("/dev/full")):
        for _ in range(3):
            logger.warning("a line")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(RunError, match="Its folder is gone"), log_to(Path("gone/log.txt")):
        pass
