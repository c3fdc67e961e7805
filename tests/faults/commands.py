"""Commands of reidkit in processes of their own, which can be stopped at any moment.

Each process is a fork of one that has imported everything, so that a command starts in milliseconds: Python's own fork
server. It computes nothing itself, so that no thread of PyTorch or numba is lost by the fork.
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

__all__ = ["Blow", "Outcome", "reidkit"]

_ROOT = Path(__file__).parents[2]
_SERVER = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_STAGE_BYTES = 16
_LIMIT_SECONDS = 500

Mishap = Callable[[], None]
"""What befalls a process before its command begins."""


class Blow(NamedTuple):
    """A signal to a command."""

    signal: signal.Signals
    seconds: float
    """So long after its beginning."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code, or the signal that killed it, negative."""
    stage: str
    """What it was at when it ended: start, read, extract, label, train, evaluate, save, report or end."""
    output: str
    """What it said, in one line."""
    struck: bool
    """Whether the blow fell before it had ended."""
    seconds: float
    """From its beginning to its end."""


def reidkit(arguments: list[str], scratch: Path, *, blow: Blow | None = None, mishap: Mishap | None = None) -> Outcome:
    """Run `reidkit ARGUMENTS`.

    Args:
        arguments: What is typed after `reidkit`.
        scratch: A folder; the command's cache of images lies there, and what it says.
        blow: The signal that it is sent.
        mishap: Called in the process before the command; a function of a module.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    said, stage = scratch / "said", scratch / "stage"
    stage.write_text("start")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    waiting, begun = context.Pipe(duplex=False)
    process = context.Process(target=_command, args=(arguments, scratch / "cache", said, stage, mishap, begun))
    with chdir(_ROOT), patch.dict(os.environ, _SERVER):  # what the server, once started, goes by
        process.start()
    begun.close()
    waiting.poll(_LIMIT_SECONDS)  # until the process closes its end
    waiting.close()
    start = time.monotonic()
    process.join(blow.seconds if blow else _LIMIT_SECONDS)
    struck = process.is_alive() and process.pid is not None
    if struck:
        assert blow is not None, f"reidkit {arguments} takes more than {_LIMIT_SECONDS} seconds"
        os.kill(process.pid or 0, blow.signal)
        process.join(_LIMIT_SECONDS)
    code = process.exitcode
    assert code is not None, f"reidkit {arguments} lives {_LIMIT_SECONDS} seconds after {blow}"
    seconds = time.monotonic() - start
    return Outcome(code, stage.read_text().strip(), " ".join(said.read_text().split()), struck, seconds)


def _command(
    arguments: list[str], cache: Path, said: Path, stage: Path, mishap: Mishap | None, begun: Connection
) -> None:
    """What the forked process does."""
    from reidkit.cli import main

    with said.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ["REIDKIT_CACHE"] = str(cache)
    sys.argv[1:] = arguments
    _watch(_StageFile(stage))
    if mishap is not None:
        mishap()
    begun.close()
    main()


class _StageFile:
    """Tells what the process is at, however it ends."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY)
        self._stage = "start"

    def enter(self, stage: str) -> str:
        """Note a stage; return the one before."""
        before, self._stage = self._stage, stage
        os.pwrite(self._descriptor, stage.ljust(_STAGE_BYTES).encode(), 0)
        return before

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Note a stage, and afterwards the one before; what an exception ends stays noted."""
        before = self.enter(stage)
        yield
        self.enter(before)


def _watch(file: _StageFile) -> None:
    """Let this process, which ends with its command, note its stages."""
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
