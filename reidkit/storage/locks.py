"""One writer at a time in a folder."""

import fcntl
import logging
import os
import re
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reidkit.errors import RunError

__all__ = ["LOCK_NAME", "FolderLock", "hold", "sole_writer"]

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
"""The file in a folder that is locked; it stays there, and means nothing unless a process holds it."""


class FolderLock:
    """Holds a folder until it is released or its process ends, in whatever way.

    Where the file system knows no locks, a warning is all that stands between two writers.

    Args:
        folder: It exists.

    Raises:
        RunError: Another holds the folder, which is named, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise RunError(
                f"{folder} cannot be written ({error.strerror}); make it writable, or choose another place"
            ) from error
        # Nobody but us knows the descriptor, so that a lock which is no longer referred to is released.
        self._release = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            self.release()
            raise RunError(
                f"another process writes into {folder} ({holder}); wait until it has ended, or choose another place"
            ) from None
        except OSError as error:
            logger.warning(
                "%s lies on a file system without locks (%s): see to it that no second process writes there",
                folder,
                error.strerror,
            )
        status = os.fstat(descriptor)
        self.key = status.st_dev, status.st_ino
        with suppress(OSError):  # on a full disk the holder has no name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let others in."""
        self._release()


_held: weakref.WeakValueDictionary[tuple[int, int], FolderLock] = weakref.WeakValueDictionary()


def hold(folder: Path) -> FolderLock:
    """Hold a folder as long as the result is referred to; within a process all share one hold.

    Raises:
        RunError: Another process holds the folder, or nothing can be written there.
    """
    with suppress(OSError):
        status = (folder / LOCK_NAME).stat()
        held = _held.get((status.st_dev, status.st_ino))
        if held is not None:
            return held
    lock = FolderLock(folder)
    _held[lock.key] = lock
    return lock


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and hold it against all others, in this process too.

    Raises:
        RunError: The folder cannot be made, or another writes into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}); choose another place") from error
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()


def _read_holder(descriptor: int) -> str:
    """Who holds the lock, as far as it is told."""
    found = re.match(rb"pid \d+ on [\w.-]+", os.pread(descriptor, 300, 0))
    return found[0].decode() if found else "unknown which"
