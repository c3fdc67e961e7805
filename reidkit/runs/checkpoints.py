"""Checkpoints with a checksum, of which the last but one is kept.

The checksum stands behind the content in the same file, where torch does not look for anything: one rename makes both
valid, and a copy of the file keeps both.
"""

import hashlib
import json
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
    """A checkpoint is not what was written."""


class _Hashed:
    """Passes what torch writes on to a file, and hashes it on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Torch asks for it; `atomic_write` flushes."""


def write_checkpoint(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    """Write NAME.pt, tensors and plain values only, in one step; what `last.pt` was becomes `previous.pt`.

    Raises:
        RunError: The file cannot be written; all checkpoints are as they were.
    """
    path = folder / f"{name}.pt"
    with atomic_write(path) as file:
        hashed = _Hashed(file)
        try:
            content = {"format": CHECKPOINT_FORMAT, "reidkit": __version__, **state}
            torch.save(content, hashed)  # type: ignore[arg-type]  # all that torch needs of a file is to write
        except RuntimeError:
            if hashed.failure is not None:  # torch hides it behind one of its own
                raise hashed.failure from None
            raise
        file.write(b"\nreidkit sha256 %s\n" % hashed.digest.hexdigest().encode())
        if name == _LAST:
            file.flush()
            os.fsync(file.fileno())  # only what is complete displaces the previous one
            _rename_copy(path, folder / f"{_PREVIOUS}.pt")


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything that `load_latest` would try."""
    return any((folder / f"{name}.pt").exists() for name in (_LAST, _PREVIOUS))


def load_latest(folder: Path) -> State | None:
    """The state in `last.pt`; where that is damaged, with a warning, in `previous.pt`, which then takes its place.

    Returns:
        What was given to `write_checkpoint`, or None if there is neither.

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
            f"{problem}. {previous}, to go on from instead, is not usable either: {error}. Start the run anew in "
            "another folder (--output), from best.pt if that is whole (--pretrained)"
        ) from None
    epoch = len(state.get("history", ())) - 1
    logger.warning(
        "%s. Going on from %s, whose last complete epoch is %d; what was done since is lost and done again",
        problem,
        previous,
        epoch,
    )
    try:  # else the next checkpoint would displace the good one by the damaged one
        _rename_copy(previous, last)
    except OSError as failure:
        raise unwritable(last, failure) from failure
    return state


def is_intact(path: Path) -> bool | None:
    """Whether a file is as it was written, by the SHA-256 at its end; None if it has none, as those of others.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        left = max(0, os.fstat(file.fileno()).st_size - _TRAILER_BYTES)
        file.seek(left)
        stored = _TRAILER.fullmatch(file.read())
        if stored is None:
            return None
        file.seek(0)
        digest = hashlib.sha256()
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode() == stored[1]


def _read(path: Path) -> State:
    if not path.exists():
        raise _DamagedError("it is missing")
    if not (path.is_file() or path.is_dir()):  # opening a pipe would wait for ever
        raise _DamagedError("it is a pipe or a device")
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
        if intact:  # nothing happened to the file: the one before it would be no better
            raise RunError(str(error)) from error
        raise _DamagedError(str(error)) from None
    if type(state.get("format")) is not int or state["format"] != CHECKPOINT_FORMAT:
        raise RunError(
            f"{path} has format {state.get('format')!r}, this version reads {CHECKPOINT_FORMAT}; resume with the "
            f"reidkit that wrote it ({state.get('reidkit', 'unknown')})"
        )
    if intact is None:
        raise _DamagedError("its checksum is missing")
    if not _has_kinds(state):
        raise RunError(
            f"{path} is whole, but is no checkpoint of a run: what it says of epochs and weights is of other kinds; "
            "bring back a copy of it, or start the run anew in another folder (--output)"
        )
    return state


def _has_kinds(state: State) -> bool:
    """Whether the parts that are there are of the kinds that a run writes; a checksum can be anybody's."""
    history, partial = state.get("history", []), state.get("partial", {"epoch": 1})
    tables = [state.get(name, {}) for name in ("model", "heads", "optimizer")]
    if not isinstance(history, list) or not all(isinstance(each, dict) for each in (*tables, *history, partial)):
        return False
    if not all(type(each.get("epoch")) is int for each in (*history, partial)):
        return False
    try:
        json.dumps(history)
    except (TypeError, ValueError, RecursionError):
        return False
    return all(isinstance(record.get("mAP", 0.0), int | float) for record in history)


def _rename_copy(path: Path, other: Path) -> None:
    """Let a file have another name as well, in one step and without a copy; nothing happens if there is no file."""
    link = other.with_name(f".{other.name}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
        link.replace(other)
    except FileNotFoundError:
        pass
    except OSError:  # a file system without hard links: a kill just now leaves `previous.pt` alone, which is found
        path.replace(other)
    finally:
        link.unlink(missing_ok=True)  # a rename between two names of one file leaves both
