import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reidkit.errors import RunError
from reidkit.storage.locks import LOCK_NAME, hold, sole_writer
from tests.injected_faults import child, full_disk


def alone(folder: Path) -> None:
    """Lock a folder against all others for a moment."""
    with sole_writer(folder):
        pass


def test_another_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        with sole_writer(tmp_path):
            ready()
            time.sleep(60)

    with child(work):
        for attempt in (alone, hold):
            with pytest.raises(RunError, match=f"another process writes into {tmp_path}; wait until it has ended"):
                attempt(tmp_path)
    alone(tmp_path)


def test_a_process_shares_its_lock_until_nothing_refers_to_it(tmp_path: Path) -> None:
    first = hold(tmp_path)
    assert hold(tmp_path) is first
    with pytest.raises(RunError, match="another process writes into"):
        alone(tmp_path)
    del first
    alone(tmp_path)


def test_a_sole_writer_is_alone_in_its_process_too(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with sole_writer(folder), pytest.raises(RunError, match="wait until it has ended"), sole_writer(folder):
        pass
    with pytest.raises(KeyError), sole_writer(folder):
        raise KeyError
    with sole_writer(folder):
        assert folder.is_dir()


def test_a_folder_that_was_removed_and_made_again_is_locked_again(tmp_path: Path) -> None:
    first = hold(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    assert hold(tmp_path) is first
    with pytest.raises(RunError, match="another process"):
        alone(tmp_path)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / LOCK_NAME).symlink_to("thesis")
    with pytest.raises(RunError, match="cannot be written"):
        alone(tmp_path)
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be made"):
        alone(tmp_path / "file" / "folder")


def test_a_full_disk_locks_all_the_same(tmp_path: Path) -> None:
    with full_disk(0), sole_writer(tmp_path), pytest.raises(RunError, match="another process"):
        alone(tmp_path)


def test_file_systems_without_locks_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "reidkit"), sole_writer(tmp_path):
        assert "a file system without locks ([Errno 37] No locks available)" in caplog.text
