"""One writer at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reidkit.errors import RunError

__all__ = ["sole_writer"]


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and hold it against other processes; a killed one holds nothing.

    Raises:
        RunError: The folder cannot be made, or another process writes into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise RunError(f"{folder} cannot be made or written ({error.strerror}); choose another place") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process writes into {folder}; wait for it, or choose another place") from None
        yield
