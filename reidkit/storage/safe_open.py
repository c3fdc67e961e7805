"""Opening files in folders of others, where a pipe or a folder may have the name of a file."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotAFileError", "open_file", "read_file"]


class NotAFileError(OSError):
    """A folder, a pipe or a device has the name of a file."""


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it. A pipe, which would be waited for, or a device, which may never end, is refused.

    Raises:
        NotAFileError: It is a pipe, a device or a folder.
        OSError: It is missing or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError("a folder, a pipe or a device, not a file")
    return open(descriptor, "rb")


def read_file(path: Path) -> bytes:
    """All bytes of a file, under the conditions of `open_file`.

    Raises:
        OSError: It is missing, cannot be read, or is no file.
    """
    with open_file(path) as file:
        return file.read()
