"""Commands of reidkit in separate processes, which can be stopped at any moment.

Python's fork server starts them: a process that has imported everything, so that a command starts in milliseconds. The
server computes nothing, so that no thread of PyTorch or numba is lost by the fork.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

__all__ = ["Outcome", "TimedSignal", "reidkit"]

_ROOT = Path(__file__).parents[2]
_SERVER = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_STAGE_BYTES = 16
_LIMIT_SECONDS = 500

Fault = Callable[[], None]
"""Function that injects a fault into a process before its command begins."""


class TimedSignal(NamedTuple):
    """A signal that a command is sent."""

    signal: signal.Signals
    seconds: float
    """Seconds after the start of the command."""


class Outcome(NamedTuple):
    """The end of a command."""

    code: int
    """Exit code, or the negative number of the signal that killed it."""
    stage: str
    """Stage at the end: start, read, extract, label, train, evaluate, save, report or end."""
    output: str
    """Standard output and errors, in one line."""
    signalled: bool
    """Whether the signal was sent before the command ended."""
    seconds: float
    """Seconds from start to end."""


def reidkit(
    arguments: list[str], scratch: Path, *, stop: TimedSignal | None = None, fault: Fault | None = None
) -> Outcome:
    """Run `reidkit ARGUMENTS`.

    Args:
        arguments: Arguments of `reidkit`.
        scratch: Folder for the command's cache of images and its output.
        stop: Signal to send.
        fault: Called in the process before the command; a function of a module.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    output, stage = scratch / "output", scratch / "stage"
    stage.write_text("start")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    waiting, ready = context.Pipe(duplex=False)
    process = context.Process(target=_command, args=(arguments, scratch / "cache", output, stage, fault, ready))
    with chdir(_ROOT), patch.dict(os.environ, _SERVER):  # read when the server starts
        process.start()
    ready.close()
    waiting.poll(_LIMIT_SECONDS)  # until the process closes its end
    waiting.close()
    start = time.monotonic()
    process.join(stop.seconds if stop else _LIMIT_SECONDS)
    signalled = process.is_alive() and process.pid is not None
    if signalled:
        assert stop is not None, f"reidkit {arguments} takes more than {_LIMIT_SECONDS} seconds"
        os.kill(process.pid or 0, stop.signal)
        process.join(_LIMIT_SECONDS)
    code = process.exitcode
    assert code is not None, f"reidkit {arguments} lives {_LIMIT_SECONDS} seconds after {stop}"
    seconds = time.monotonic() - start
    return Outcome(code, stage.read_text().strip(), " ".join(output.read_text().split()), signalled, seconds)


def _command(
    arguments: list[str], cache: Path, output: Path, stage: Path, fault: Fault | None, ready: Connection
) -> None:
    """Run the command in the forked process."""
    from reidkit.cli import main

    with output.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ["REIDKIT_CACHE"] = str(cache)
    sys.argv[1:] = arguments
    _watch(_StageFile(stage))
    if fault is not None:
        fault()
    ready.close()
    main()


class _StageFile:
    """File with the current stage of the process, readable after any end."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY)
        self._stage = "start"

    def enter(self, stage: str) -> str:
        """Write a stage; return the one before."""
        before, self._stage = self._stage, stage
        os.pwrite(self._descriptor, stage.ljust(_STAGE_BYTES).encode(), 0)
        return before

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Write a stage, and after it the one before; a stage that an exception ends stays written."""
        before = self.enter(stage)
        yield
        self.enter(before)


def _watch(file: _StageFile) -> None:
    """Make this process, which ends with its command, write its stages."""
    from reidkit.cli import runs
    from reidkit.loop import images, training
    from reidkit.loop.epoch import Epoch
    from reidkit.runs.run_folder import RunFolder

    timed = Epoch.timed

    @contextmanager
    def watched(self: Epoch, name: str) -> Iterator[None]:
        with file.during(name), timed(self, name):
            yield

    Epoch.timed = watched  # type: ignore[method-assign]
    for owner, name, stage in (
        (images, "open_images", "read"),
        (runs, "write_report", "report"),
        (training, "train_epoch", "train"),
        *((RunFolder, name, "save") for name in ("append", "restore_history", "save_config")),
        *((RunFolder, f"save_{name}", "save") for name in ("checkpoint", "features", "labels")),
    ):
        setattr(owner, name, _noting(file, stage, getattr(owner, name)))


def _noting(file: _StageFile, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        with file.during(stage):
            return function(*arguments, **options)

    return noted
