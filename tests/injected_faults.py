"""What goes wrong on shared machines: kills, full disks, folders of others."""

import os
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reidkit.loop import Progress

NOBODY = 65534


class Stopping(Progress):
    """Sends SIGTERM to this process in a step, counted over all epochs."""

    def __init__(self, step: int) -> None:
        self._left, self._training = step, False

    def begin(self, stage: str, total: int, unit: str = "images") -> None:
        self._training = unit == "steps"

    def advance(self, done: int, total: int | None = None, **figures: float) -> None:
        self._left -= self._training
        if self._training and self._left == 0:
            signal.raise_signal(signal.SIGTERM)


@contextmanager
def child(work: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """The id of a process that does `work(ready)`, once it has called `ready`; it is killed by SIGKILL on leaving."""
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it does nothing that threads mind
        pid = os.fork()
    if pid == 0:
        try:
            work(lambda: os.close(writing))
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the system then refuses to write, as on a full disk."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def powerless() -> Iterator[None]:
    """Even the superuser, in whose name containers test, is refused what others are."""
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that everyone may look into; below `tmp_path` nobody but us may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
