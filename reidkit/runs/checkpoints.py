"""Checkpoints with a checksum; the last but one is kept.

The checksum follows the content in the same file, where torch does not look: one rename makes both valid, and a copy of
the file keeps both.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from reidkit.__about__ import __version__
from reidkit.backbones import read_checkpoint
from reidkit.errors import CheckpointError, RunError
from reidkit.storage import atomic_write, unwritable

__all__ = ["CHECKPOINT_FORMAT", "has_checkpoint", "is_intact", "load_latest", "write_checkpoint"]

logger = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 2
"""Version of the checkpoint's layout, stored in it: 2 has a checksum."""

State = dict[str, Any]

_LAST, _PREVIOUS = "last", "previous"
_TRAILER = re.compile(rb"\nreidkit sha256 ([0-9a-f]{64})\n")
_TRAILER_BYTES = 81
_CHUNK = 1 << 20


class _DamagedError(Exception):
    """A checkpoint is not as it was written."""


def write_checkpoint(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    """Write NAME.pt, tensors and plain values only, in one step; the `last.pt` before it becomes `previous.pt`.

    Raises:
        RunError: The file cannot be written; all checkpoints are as they were.
    """
    path = folder / f"{name}.pt"
    with atomic_write(path) as file:
        try:
            torch.save({"format": CHECKPOINT_FORMAT, "reidkit": __version__, **state}, file)
        except RuntimeError as error:
            # After a failed write torch raises another error.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        length = file.tell()
        file.flush()
        with Path(file.name).open("rb") as written:
            file.write(b"\nreidkit sha256 %s\n" % _digest(written, length))
        if name == _LAST:
            file.flush()
            os.fsync(file.fileno())  # only a complete file displaces the previous one
            _link(path, folder / f"{_PREVIOUS}.pt")


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a file that `load_latest` would read."""
    return any((folder / f"{name}.pt").exists() for name in (_LAST, _PREVIOUS))


def load_latest(folder: Path) -> State | None:
    """Read `last.pt`; if it is damaged, with a warning, `previous.pt`, which then takes its place.

    Returns:
        The state given to `write_checkpoint`, or None if there is neither file.

    Raises:
        RunError: Neither can be read, or one is of another format.
    """
    if not has_checkpoint(folder):
        return None
    last, previous = (folder / f"{name}.pt" for name in (_LAST, _PREVIOUS))
    try:
        return _read(last)
    except _DamagedError as error:
        problem = f"{last} is damaged: {error}"
    try:
        state = _read(previous)
    except _DamagedError as error:
        raise RunError(
            f"{problem}. {previous}, to go on from instead, is not usable either: {error}. Start a new run in another "
            "folder (--output), from best.pt if that is whole (--pretrained)"
        ) from None
    logger.warning(
        "%s. Going on from %s, whose last complete epoch is %d; what was done since is lost and done again",
        *(problem, previous, len(state.get("history", ())) - 1),
    )
    try:  # else the next checkpoint would displace the good one by the damaged one
        _link(previous, last)
    except OSError as failure:
        raise unwritable(last, failure) from failure
    return state


def is_intact(path: Path) -> bool | None:
    """Whether a file is as it was written, by the SHA-256 at its end; None if it has none.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        length = max(0, os.fstat(file.fileno()).st_size - _TRAILER_BYTES)
        file.seek(length)
        stored = _TRAILER.fullmatch(file.read())
        return None if stored is None else _digest(file, length) == stored[1]


def _digest(file: IO[bytes], length: int) -> bytes:
    """SHA-256 of the first bytes of a file, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while length and (chunk := file.read(min(length, _CHUNK))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest().encode()


def _read(path: Path) -> State:
    if not path.exists():
        raise _DamagedError("it is missing")
    try:
        intact = is_intact(path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}); mend that, or remove the file to go on from the one before it"
        ) from error
    if intact is False:
        raise _DamagedError("its checksum is another")
    try:
        state = read_checkpoint(path)
    except CheckpointError as error:
        if intact:  # the file is as it was written: the one before it would be no better
            raise RunError(str(error)) from error
        raise _DamagedError(str(error)) from None
    if state.get("format") != CHECKPOINT_FORMAT:
        raise RunError(
            f"{path} has format {state.get('format')!r}, this version reads {CHECKPOINT_FORMAT}; resume with the "
            f"reidkit that wrote it ({state.get('reidkit', 'unknown')})"
        )
    if intact is None:
        raise _DamagedError("its checksum is missing")
    return state


def _link(path: Path, other: Path) -> None:
    """Give a file another name as well, in one step and without a copy; without a file nothing happens."""
    link = other.with_name(f".{other.name}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
        link.replace(other)
    except FileNotFoundError:
        pass
    except OSError:  # a file system without hard links: a kill here leaves `previous.pt` alone, which is found
        path.replace(other)
    finally:
        link.unlink(missing_ok=True)  # a rename between two names of one file leaves both
