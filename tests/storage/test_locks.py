import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reidkit.errors import RunError
from reidkit.storage.locks import LOCK_NAME, FolderLock, hold, sole_writer
from tests.injected_faults import child, full_disk


def holder(folder: Path) -> Callable[[Callable[[], None]], None]:
    """The work of a process that holds a folder."""

    def work(ready: Callable[[], None]) -> None:
        with sole_writer(folder):
            ready()
            time.sleep(60)

    return work


def test_another_process_is_refused_and_told_who_holds_the_folder_until_it_is_killed(tmp_path: Path) -> None:
    with child(holder(tmp_path)) as pid:
        for attempt in (FolderLock, hold):
            with pytest.raises(
                RunError, match=rf"another process writes into .*\(pid {pid} on {socket.gethostname()}\)"
            ):
                attempt(tmp_path)
    lock = FolderLock(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == f"pid {os.getpid()} on {socket.gethostname()}\n"
    lock.release()


def test_a_process_shares_its_hold_until_nobody_refers_to_it(tmp_path: Path) -> None:
    first = hold(tmp_path)
    assert hold(tmp_path) is first
    with pytest.raises(RunError, match="another process writes into"):
        FolderLock(tmp_path)
    del first
    FolderLock(tmp_path).release()


def test_a_sole_writer_is_alone_in_its_process_too(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with sole_writer(folder), pytest.raises(RunError, match="wait until it has ended"), sole_writer(folder):
        pass
    with pytest.raises(KeyError), sole_writer(folder):
        raise KeyError
    with sole_writer(folder):
        assert folder.is_dir()


def test_a_folder_that_was_removed_and_made_again_is_held_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    stale = hold(folder)
    (folder / LOCK_NAME).unlink()
    fresh = hold(folder)
    assert fresh is not stale
    with pytest.raises(RunError, match="another process"):
        FolderLock(folder)


def test_what_a_stranger_wrote_into_the_lock_is_not_shown(tmp_path: Path) -> None:
    with (tmp_path / LOCK_NAME).open("wb") as file:
        file.write(b"\x1b[2J" + b"x" * 1000)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match=r"\(unknown which\)"):
            FolderLock(tmp_path)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / LOCK_NAME).symlink_to("thesis")
    with pytest.raises(RunError, match="cannot be written"):
        FolderLock(tmp_path)
    assert (tmp_path / "thesis").read_text() == "years of work"


@pytest.mark.parametrize("attempt", [FolderLock, hold])
def test_a_folder_that_is_gone_is_named(tmp_path: Path, attempt: Callable[[Path], FolderLock]) -> None:
    with pytest.raises(RunError, match=r"gone cannot be written \(No such file"):
        attempt(tmp_path / "gone")


def test_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be made"), sole_writer(tmp_path / "file" / "folder"):
        pass


def test_a_full_disk_locks_all_the_same(tmp_path: Path) -> None:
    with full_disk(0):
        lock = FolderLock(tmp_path)
    with pytest.raises(RunError, match="unknown which"):
        FolderLock(tmp_path)
    lock.release()


def test_file_systems_without_locks_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "reidkit"), sole_writer(tmp_path):
        assert "a file system without locks (No locks available)" in caplog.text
