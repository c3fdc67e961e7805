"""One writer at a time in a folder, by filelock: the system releases the lock when its process ends."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from reidkit.errors import RunError

__all__ = ["LOCK_NAME", "hold", "sole_writer"]

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
"""The file in a folder that is locked. It stays there, and means nothing unless a process holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def hold(folder: Path) -> BaseFileLock:
    """Lock a folder until nothing refers to the result; all callers within a process share one lock.

    Raises:
        RunError: Another process holds the folder, or it cannot be written.
    """
    lock = FileLock(folder / LOCK_NAME, is_singleton=True, thread_local=False)
    if lock.is_locked and not (folder / LOCK_NAME).exists():  # the folder was removed and made again
        lock.release(force=True)
    if not lock.is_locked:
        _acquire(lock, folder)
    return lock


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and lock it against all others, in this process too.

    Raises:
        RunError: The folder cannot be made, or another writes into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made ({error.strerror}); choose another place") from error
    lock = FileLock(folder / LOCK_NAME, thread_local=False)
    _acquire(lock, folder)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"another process writes into {folder}; wait until it has ended, or choose another place"
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise RunError(
                f"{folder} cannot be written ({error.strerror}); make it writable, or choose another place"
            ) from error
        logger.warning("%s is on a file system without locks (%s): let no second process write there", folder, error)
