import io
from pathlib import Path

import pytest
from PIL import Image

from reidkit.runs.events import append_picture, append_scalars, event_path
from tests.injected_faults import full_disk

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows."""
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    path = event_path(tmp_path)
    append_scalars(path, 0, {"mAP": 10.5})
    append_scalars(path, 1, {"mAP": 20.5, "seconds/train": 3.0})
    assert read(tmp_path) == {"mAP": [(0, 10.5), (1, 20.5)], "seconds/train": [(1, 3.0)]}


def test_a_resumed_run_takes_the_place_of_what_was_killed(tmp_path: Path) -> None:
    first = event_path(tmp_path)
    for step in range(4):
        append_scalars(first, step, {"loss": float(step)})
    append_scalars(event_path(tmp_path), 2, {"loss": 7.0})
    assert read(tmp_path) == {"loss": [(0, 0.0), (1, 1.0), (2, 7.0)]}


def test_a_full_disk_is_an_error_of_the_caller(tmp_path: Path) -> None:
    path = event_path(tmp_path)
    append_scalars(path, 0, {"mAP": 10.5})
    with full_disk(path.stat().st_size + 5), pytest.raises(OSError, match="File too large"):
        append_scalars(path, 1, {"mAP": 20.5})
    assert read(tmp_path) == {"mAP": [(0, 10.5)]}


def test_tensorboard_shows_pictures_beside_figures(tmp_path: Path) -> None:
    path = event_path(tmp_path)
    append_picture(path, 5, "clusters", Image.new("RGB", (40, 30), "#ff0000"))
    append_scalars(path, 5, {"mAP": 10.5})
    append_picture(path, 10, "clusters", Image.new("RGB", (20, 10), "#0000ff"))
    assert read(tmp_path) == {"mAP": [(5, 10.5)]}
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    pictures = [(event.step, event.width, event.height) for event in events.Images("clusters")]
    assert pictures == [(5, 40, 30), (10, 20, 10)]
    shown = Image.open(io.BytesIO(events.Images("clusters")[0].encoded_image_string)).getpixel((20, 15))
    assert isinstance(shown, tuple)
    assert shown[0] > 250
    assert shown[2] < 5


def test_a_picture_first_of_a_resumed_run_voids_what_was_killed(tmp_path: Path) -> None:
    first = event_path(tmp_path)
    for step in range(4):
        append_scalars(first, step, {"loss": float(step)})
    second = event_path(tmp_path)
    append_picture(second, 2, "clusters", Image.new("RGB", (4, 4)))
    append_scalars(second, 2, {"loss": 7.0})
    assert read(tmp_path) == {"loss": [(0, 0.0), (1, 1.0), (2, 7.0)]}
