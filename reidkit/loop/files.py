"""Writing files so that a reader, a full disk or a kill never meets half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reidkit.errors import RunError

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on leaving it is flushed to the disk and renamed onto `path`.

    Whatever goes wrong inside, `path` keeps its old content and the temporary file is removed.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); its last complete version is untouched. Free "
            "some space or mend the permissions of the folder, then try again (a training run goes on with --resume)"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
