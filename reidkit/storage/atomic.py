"""Writing files so that a reader, a full disk or a kill never meets half of one."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from reidkit.errors import RunError

__all__ = ["atomic_write", "is_leftover", "remove_leftovers", "unwritable"]

_FULL, _CLOSED, _GONE = (
    "Free some space",
    "Make its folder writable",
    "Its folder is gone: bring it back or choose another",
)
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), _GONE),
}


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on leaving it is flushed to the disk and renamed onto `path`.

    Whatever goes wrong inside, `path` keeps its old content and the temporary file is removed. A kill leaves the
    temporary file, which `remove_leftovers` finds.

    Raises:
        RunError: The disk is full, or the folder is gone or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with suppress(OSError):  # the lock only tells `remove_leftovers` that the writer lives
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # it is renamed, or it was never made
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> RunError:
    """What to tell of a file that the system did not let us write: its reason, and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "Mend that")
    return RunError(
        f"{path} could not be written ({error.strerror or error}); what was complete before is untouched. {remedy}, "
        "then try again (a training run goes on with --resume)"
    )


def is_leftover(path: Path) -> bool:
    """Whether a file has the name of one that `atomic_write` did not finish."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; what is being written now stays."""
    for path in folder.glob(".*.tmp"):
        if not is_leftover(path) or path.is_symlink() or not path.is_file():
            continue
        # A lock is not to be had while the writer lives, or where the file system knows none.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the answer of file systems that cannot do this
            raise
    finally:
        os.close(descriptor)
