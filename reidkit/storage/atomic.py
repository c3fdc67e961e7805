"""Atomic writes: a reader, a full disk or a kill never leaves half a file."""

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from reidkit.errors import DataError, RunError

__all__ = ["atomic_write", "check_writable", "is_leftover", "remove_leftovers", "unwritable"]

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Make its folder writable"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "Its folder is gone: bring it back or choose another"),
}


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on leaving it is flushed to the disk and renamed onto `path`.

    After an error inside, `path` keeps its old content and the temporary file is removed. A kill leaves the temporary
    file, which `remove_leftovers` finds.

    Raises:
        RunError: The disk is full, or the folder is gone or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with suppress(OSError):  # by the lock `remove_leftovers` knows that the writer lives
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


def check_writable(path: Path) -> None:
    """Make sure, before any work, that a file can be written; an existing file keeps its content.

    Raises:
        DataError: The path is a folder, or its folder does not exist or cannot be written.
    """
    try:
        if path.exists():
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); choose another file") from error


def unwritable(path: Path, error: OSError) -> RunError:
    """Error about a file that the system refused to write, with its reason and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "Mend that")
    return RunError(
        f"{path} could not be written ({error.strerror or error}); what was complete before is untouched. {remedy}, "
        "then try again (a training run goes on with --resume)"
    )


def is_leftover(path: Path) -> bool:
    """Whether a file has the name of one that `atomic_write` did not finish."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the files that killed processes left half-written in a folder; those being written now stay."""
    for path in folder.glob(".*.tmp"):
        if not is_leftover(path) or path.is_symlink() or not path.is_file():
            continue
        # Locking fails while the writer lives, and on file systems without locks.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the answer of file systems that cannot do this
            raise
    finally:
        os.close(descriptor)
