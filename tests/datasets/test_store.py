import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from reidkit.datasets import store
from reidkit.datasets.decoding import StoredImages, decode_images
from reidkit.datasets.store import evict, list_stores, open_images
from reidkit.datasets.streaming import StreamedImages
from reidkit.errors import DataError
from tests.datasets.test_decoding import corrupt_images, noise_image

SIZE = (8, 4)
ROW = 3 * 8 * 4  # bytes of an image

BUILDER = """
import logging, sys, time
from pathlib import Path
from reidkit.datasets import store

def progress(done, total):
    print("progress", done, flush=True)
    time.sleep(float(sys.argv[3]))

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
print("ready", flush=True)
sys.stdin.readline()
paths = [Path(sys.argv[1])] * 600
images = store.open_images(paths, (8, 4), folder=Path(sys.argv[2]), label="crowd", progress=progress)
print("rows", len(images.pixels), flush=True)
"""


class Disk(NamedTuple):
    free: int


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Twelve images, of which number 3 is not one."""
    made = [noise_image(tmp_path / f"{index}.png", size=(10 + index, 20)) for index in range(12)]
    made[3].write_text("not an image")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images"


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "reidkit")
    return caplog


def count(said: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in said.records)


def entry(folder: Path) -> Path:
    (only,) = list_stores(folder)
    return folder / only.key


def check(images: StoredImages, paths: list[Path]) -> None:
    expected = decode_images(paths, SIZE)
    np.testing.assert_array_equal(images.pixels[:], expected.pixels[expected.readable])
    np.testing.assert_array_equal(images.readable, expected.readable)
    assert images.problems == expected.problems


def no_reading(*_: object, **__: object) -> None:
    raise AssertionError("images are decoded again")


def builder(image: Path, folder: Path, seconds: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", BUILDER, str(image), str(folder), str(seconds)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    while words not in (line := process.stdout.readline()):
        assert line, f"the process ended before it said {words!r}"


def test_the_second_time_decodes_nothing(
    paths: list[Path], folder: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    first = open_images(paths, SIZE, folder=folder, label="set", progress=lambda *now: done.append(now))
    check(first, paths)
    monkeypatch.setattr(store, "read_images", no_reading)
    second = open_images(paths, SIZE, folder=folder, progress=lambda *now: done.append(now))
    check(second, paths)
    assert done[-1] == (12, 12)
    assert count(said, "stored 11 images") == 1
    rows = np.array([10, 0, 0, 4])
    gathered = second.pixels[rows]
    assert gathered.flags.writeable
    np.testing.assert_array_equal(gathered, first.pixels[:][rows])
    with pytest.raises(ValueError, match="read-only"):
        second.pixels[:2][:] = 0


def test_other_sizes_files_times_and_orders_are_other_stores(paths: list[Path], folder: Path) -> None:
    open_images(paths, SIZE, folder=folder)
    open_images(paths, (4, 8), folder=folder)
    open_images(paths[::-1], SIZE, folder=folder)
    os.utime(paths[0], (1, 1))
    open_images(paths, SIZE, folder=folder)
    noise_image(paths[3], size=(5, 5))
    check(open_images(paths, SIZE, folder=folder), paths)
    assert len(list_stores(folder)) == 5


def test_relative_names_are_those_of_the_working_folder(
    paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_images(paths, SIZE, folder=folder)
    monkeypatch.chdir(paths[0].parent)
    open_images([Path(path.name) for path in paths], SIZE, folder=folder)
    assert len(list_stores(folder)) == 1


@pytest.mark.parametrize("kind", ["truncated", "changed", "no pixels", "no index", "half an index", "no sums"])
def test_damage_is_noticed_named_and_mended(
    kind: str, paths: list[Path], folder: Path, said: pytest.LogCaptureFixture
) -> None:
    open_images(paths, SIZE, folder=folder)
    pixels, index = entry(folder) / "pixels.bin", entry(folder) / "index.json"
    if kind == "truncated":
        os.truncate(pixels, 100)
    elif kind == "changed":
        status = pixels.stat()
        pixels.write_bytes(b"x" + pixels.read_bytes()[1:])
        os.utime(pixels, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif kind == "half an index":
        index.write_bytes(index.read_bytes()[:50])
    elif kind == "no sums":
        text = index.read_text()
        start = text.index('"crc32":[') + len('"crc32":[')
        index.write_text(text[:start] + text[text.index("]", start) :])
    else:
        (pixels if kind == "no pixels" else index).unlink()
    words = {"truncated": "100 bytes instead of 1,056", "changed": "block 1 of 1", "half an index": "cannot be read"}
    check(open_images(paths, SIZE, folder=folder), paths)
    assert count(said, "are damaged") == 1
    assert count(said, words.get(kind, "are damaged")) == 1
    check(open_images(paths, SIZE, folder=folder), paths)
    assert count(said, "stored 11 images") == 2


def test_another_time_leads_to_a_full_check_once(
    paths: list[Path], folder: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BLOCK", 100)
    open_images(paths, SIZE, folder=folder)
    pixels = entry(folder) / "pixels.bin"
    os.utime(pixels, (5, 5))
    checked: list[int] = []
    crc32 = zlib.crc32

    def counting(data: memoryview) -> int:
        checked.append(len(data))
        return crc32(data)

    monkeypatch.setattr(zlib, "crc32", counting)
    open_images(paths, SIZE, folder=folder)
    assert sum(checked) == 11 * ROW
    checked.clear()
    open_images(paths, SIZE, folder=folder)
    assert 0 < len(checked) <= 2
    assert count(said, "stored") == 1


def test_strict_and_unreadable_sets_leave_nothing(paths: list[Path], folder: Path) -> None:
    with pytest.raises(DataError, match=r"unreadable image .*3\.png"):
        open_images(paths, SIZE, folder=folder, strict=True)
    with pytest.raises(DataError, match="none of 1 images is readable"):
        open_images(paths[3:4], SIZE, folder=folder)
    assert list_stores(folder) == []
    open_images(paths, SIZE, folder=folder)
    with pytest.raises(DataError, match=r"unreadable image .*3\.png"):
        open_images(paths, SIZE, folder=folder, strict=True)
    assert len(open_images([], SIZE, folder=folder).pixels) == 0


def test_the_nine_kinds_of_corrupt_images_are_stored_or_named(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, read = corrupt_images(tmp_path)
    mixed = [*lost[:2], *read[:3], *lost[2:], *read[3:]]
    first = open_images(mixed, SIZE, folder=folder)
    check(first, mixed)
    assert [problem.split(": ")[0] for problem in first.problems] == [str(path) for path in lost]
    monkeypatch.setattr("reidkit.datasets.decoding._decode", no_reading)
    again = open_images(mixed, SIZE, folder=folder)
    np.testing.assert_array_equal(again.pixels[:], first.pixels[:])
    assert (again.problems, again.readable.tolist()) == (first.problems, first.readable.tolist())


def test_names_that_are_no_text(paths: list[Path], folder: Path, tmp_path: Path) -> None:
    """A name in another encoding than UTF-8 ended the command, if the image was unreadable too."""
    broken = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    broken.touch()
    for _ in range(2):
        images = open_images([*paths, broken], SIZE, label=str(broken), folder=folder)
        assert [problem.split(": ")[0] for problem in images.problems[-1:]] == [rf"{tmp_path}/caf\udce9.jpg"]
    assert list_stores(folder)[0].label == rf"{tmp_path}/caf\udce9.jpg"


def test_the_budget_evicts_the_longest_unused_but_none_in_use(
    paths: list[Path], folder: Path, said: pytest.LogCaptureFixture
) -> None:
    used = open_images(paths[:3], SIZE, folder=folder, label="used")
    for number, label in ((2, "old"), (1, "older")):
        open_images(paths[4 : 4 + number], SIZE, folder=folder, label=label)
        os.utime(entry_of(folder, label) / "index.json", (number, number))
    short = sum(record.bytes for record in list_stores(folder)) + 8 * ROW - 1
    assert isinstance(open_images(paths[4:], SIZE, folder=folder, label="new", budget=short).pixels, np.ndarray)
    left = {record.label for record in list_stores(folder)}
    assert left == {"used", "old", "new"}
    assert count(said, "removed the stored images of older") == 1
    streamed = open_images(paths, SIZE, folder=folder, budget=12 * ROW)
    assert isinstance(streamed.pixels, StreamedImages)
    assert len(streamed.pixels) == 12
    assert streamed.readable.all()
    assert {record.label for record in list_stores(folder)} == left, "nothing is removed in vain"
    assert len(used.pixels) == 3


def entry_of(folder: Path, label: str) -> Path:
    (key,) = (record.key for record in list_stores(folder) if record.label == label)
    return folder / key


def test_a_disk_without_room_streams(paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(4 * 2**30))
    assert isinstance(open_images(paths, SIZE, folder=folder).pixels, StreamedImages)
    assert list_stores(folder) == []


@pytest.mark.parametrize("small", [True, False])
def test_a_full_disk_or_a_folder_that_cannot_be_written_goes_on(
    small: bool, paths: list[Path], folder: Path, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if not small:
        monkeypatch.setattr(store, "_GIB", 1)
    blocked = paths[0] / "images"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        images = open_images(paths, SIZE, folder=folder)
    assert list_stores(folder) == []
    for opened in (images, open_images(paths, SIZE, folder=blocked)):
        assert isinstance(opened.pixels, StreamedImages) is not small
        if small:
            check(opened, paths)
    assert count(said, "No space left on device") == 1
    assert count(said, "Not a directory") == 1


def test_records_say_what_is_there(paths: list[Path], folder: Path) -> None:
    assert list_stores(folder) == []
    images = open_images(paths, SIZE, folder=folder, label="set")
    (folder / "0123456789abcdef.building").mkdir()
    (folder / "thesis").mkdir()
    begun, whole = sorted(list_stores(folder), key=lambda record: record.complete)
    assert (begun.key, begun.images, begun.complete) == ("0123456789abcdef.building", 0, False)
    assert (whole.label, whole.images, whole.size, whole.complete, whole.in_use) == ("set", 11, SIZE, True, True)
    assert whole.bytes >= 11 * ROW
    assert abs(whole.last_used - time.time()) < 60
    assert evict(folder, keys=[whole.key]) == []
    del images
    assert {record.key for record in evict(folder)} == {whole.key, begun.key}
    assert list_stores(folder) == []
    assert (folder / "thesis").is_dir()


def test_eviction_by_key_age_and_size(paths: list[Path], folder: Path) -> None:
    for number in (1, 2, 3):
        open_images(paths[4 : 4 + number], SIZE, folder=folder, label=str(number))
        used = time.time() - number * 1000
        os.utime(entry_of(folder, str(number)) / "index.json", (used, used))
    three, two, one = list_stores(folder)
    assert [record.label for record in (three, two, one)] == ["3", "2", "1"]
    with pytest.raises(DataError, match=f"has the key 'nope'.*{one.key}"):
        evict(folder, keys=["nope"])
    assert evict(folder, older_than=5000) == []
    assert [record.label for record in evict(folder, older_than=2500)] == ["3"]
    assert evict(folder, keep_bytes=one.bytes + two.bytes) == []
    assert [record.label for record in evict(folder, keep_bytes=one.bytes)] == ["2"]
    assert [record.label for record in evict(folder, keys=[one.key[:6]])] == ["1"]


def test_two_threads_build_once(paths: list[Path], folder: Path, said: pytest.LogCaptureFixture) -> None:
    threads = [threading.Thread(target=open_images, args=(paths, SIZE), kwargs={"folder": folder}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(said, "stored 11 images") == 1


def test_two_processes_build_once_and_a_killed_one_leaves_nothing(paths: list[Path], folder: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(builder(paths[0], folder, seconds)) for seconds in (60, 0.7, 0.7)]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            wait_for(process, "ready")
        killed, *others = processes
        go(killed)
        wait_for(killed, "progress 256")
        assert [record.complete for record in list_stores(folder)] == [False]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert [record.complete for record in list_stores(folder)] == [False]
        # What a builder of other images left is removed too.
        shutil.copytree(next(folder.glob("*.building")), folder / "0123456789abcdef.building")
        for process in others:
            go(process)
        outputs = [process.communicate()[0] for process in others]
    assert sum("stored 600 images" in output for output in outputs) == 1
    assert sum("waiting for another process that builds the image store of crowd" in output for output in outputs) == 1
    assert all("rows 600" in output for output in outputs)
    assert [(record.images, record.complete) for record in list_stores(folder)] == [(600, True)]
    assert not list(folder.glob("*.building"))
