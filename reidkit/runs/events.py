"""Metrics and pictures for TensorBoard, written at once: a full disk is an error here, not in a thread of a library."""

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

__all__ = ["append_picture", "append_scalars", "event_path"]

_QUALITY = 85
_RGB = 3  # TensorBoard's number of that colour space


def event_path(folder: Path) -> Path:
    """Path of a new event file in a folder, named as TensorBoard expects it."""
    return folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"


def append_scalars(path: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Append metrics of one step to an event file.

    The first event of a file makes the events of older files void from that step on.

    Raises:
        OSError: The file cannot be written.
    """
    _append(path, step, [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])


def append_picture(path: Path, step: int, name: str, picture: Image.Image) -> None:
    """Append a picture (RGB) of one step to an event file, as `append_scalars` does with metrics.

    Raises:
        OSError: The file cannot be written.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_QUALITY)
    image = Summary.Image(
        height=picture.height, width=picture.width, colorspace=_RGB, encoded_image_string=encoded.getvalue()
    )
    _append(path, step, [Summary.Value(tag=name, image=image)])


def _append(path: Path, step: int, values: Sequence[Summary.Value]) -> None:
    now = time.time()
    events = [Event(wall_time=now, step=step, summary=Summary(value=values))]
    if not path.exists():
        start = Event(wall_time=now, step=step, session_log=SessionLog(status=SessionLog.START))
        events = [Event(wall_time=now, file_version="brain.Event:2"), start, *events]
    with path.open("ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
