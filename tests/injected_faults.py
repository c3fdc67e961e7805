"""Faults of shared machines: kills, full disks, folders without permission."""

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
    """Sends SIGTERM to this process in one step, counted over all epochs."""

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
    """Id of a process that runs `work(ready)`, once it has called `ready`; leaving the context kills it by SIGKILL."""
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the child takes no lock of a thread
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
    """Limit files to `size` bytes: the system refuses to write more, as on a full disk."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def powerless() -> Iterator[None]:
    """Drop the privileges of the superuser, as whom tests run in containers."""
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
    """A folder that every user may read, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
