"""Figures for TensorBoard, written at once: a full disk is an error here, not the last word of a thread."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

__all__ = ["append_scalars", "event_path"]


def event_path(folder: Path) -> Path:
    """A new event file's place in a folder, named as TensorBoard expects it."""
    return folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"


def append_scalars(path: Path, step: int, figures: Sequence[tuple[str, float]]) -> None:
    """Append named figures of one step to an event file; with the first, older files' figures since then are void.

    Raises:
        OSError: The file cannot be written.
    """
    now = time.time()
    events = [Event(wall_time=now, step=step, summary=Summary(value=[_scalar(*figure) for figure in figures]))]
    if not path.exists():
        start = SessionLog(status=SessionLog.START)
        events = [
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=step, session_log=start),
            *events,
        ]
    with path.open("ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())


def _scalar(name: str, value: float) -> Summary.Value:
    return Summary.Value(tag=name, simple_value=value)
