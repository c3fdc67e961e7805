import logging
import threading
import traceback
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from reidkit.datasets.decoding import Pixels, decode_images
from reidkit.datasets.streaming import StreamedImages, prefetch
from reidkit.errors import ConfigError, DataError
from tests.datasets.test_decoding import corrupt_images, noise_image

SIZE = (8, 4)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Twelve images, of which number 3 is not one."""
    made = [noise_image(tmp_path / f"{index}.png", size=(10 + index, 20)) for index in range(12)]
    made[3].write_text("not an image")
    return made


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "decode"))]


def test_rows_are_those_of_decoding_everything(paths: list[Path]) -> None:
    pixels: Pixels = StreamedImages(paths, SIZE, workers=2)
    expected = decode_images(paths, SIZE).pixels
    expected[3] = 128
    assert pixels.shape == expected.shape == (len(pixels), 3, *SIZE)
    np.testing.assert_array_equal(pixels[2:9:3], expected[2:9:3])
    rows = np.array([11, 0, 3, 0, -2])
    np.testing.assert_array_equal(pixels[rows], expected[rows])
    assert pixels[rows[:0]].shape == (0, 3, *SIZE)
    assert not prefetching()


def test_rows_that_do_not_exist_and_masks_are_refused(paths: list[Path]) -> None:
    pixels = StreamedImages(paths, SIZE)
    with pytest.raises(IndexError):
        pixels[np.array([12])]
    with pytest.raises(IndexError, match="flatnonzero"):
        pixels[np.ones(12, dtype=np.bool_)]


def test_each_unreadable_image_is_named_once_and_many_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = StreamedImages([tmp_path / f"{index}.jpg" for index in range(12)], SIZE)
    for _ in range(2):
        assert (pixels[:] == 128).all()
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[1].strip() for message in messages[:5]] == [str(tmp_path / f"{i}.jpg") for i in range(5)]
    assert messages[5:] == ["10 images are unreadable so far and grey instead (--strict stops instead)"]


def test_the_nine_kinds_of_corrupt_images_are_streamed_or_grey(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost, read = corrupt_images(tmp_path)
    pixels = StreamedImages([*read, *lost], SIZE)[:]
    np.testing.assert_array_equal(pixels[: len(read)], decode_images(read, SIZE).pixels)
    assert (pixels[len(read) :] == 128).all()
    for path in lost:
        assert f"unreadable image, grey instead: {path}: " in caplog.text


def test_strict_streams_stop(paths: list[Path]) -> None:
    images = StreamedImages(paths, SIZE, strict=True)
    assert len(images[4:8]) == 4
    with pytest.raises(DataError, match=r"unreadable image .*3\.png.*without --strict"):
        images[:]


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetched_batches_are_all_there_in_order(depth: int) -> None:
    assert list(prefetch(range(20), depth)) == list(range(20))
    assert list(prefetch([], depth)) == []
    assert not prefetching()


def test_no_more_than_depth_batches_are_ahead() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in count(1):
            made.append(number)
            yield number

    ahead = prefetch(batches(), 3)
    for wanted in range(1, 20):
        assert next(ahead) == wanted
        assert len(made) <= wanted + 3
    ahead.close()


def test_work_is_done_in_another_thread() -> None:
    names = list(prefetch(threading.current_thread().name for _ in range(3)))
    assert all(name.startswith("prefetch") for name in names)


def test_exceptions_arrive_after_the_batches_before_them() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    ahead = prefetch(failing())
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken") as caught:
        next(ahead)
    assert "failing" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not prefetching()


def test_closing_early_stops_the_thread_and_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.set()

    ahead = prefetch(endless())
    assert next(ahead) == 0
    ahead.close()
    assert closed.is_set()
    assert not prefetching()


def test_depth_is_checked_at_once() -> None:
    with pytest.raises(ConfigError, match="depth=0"):
        prefetch([1], 0)


def test_nothing_is_said_of_readable_images(paths: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        StreamedImages(paths[4:], SIZE)[:]
    assert not [record for record in caplog.records if record.name.startswith("reidkit")]
