import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reidkit.errors import DataError, RunError
from reidkit.storage import atomic_write
from reidkit.storage.atomic import check_writable, remove_leftovers
from tests.injected_faults import child, full_disk, powerless, public

__all__ = ["public"]


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_written_replaces_the_old_file(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "file", b"old")
    with (
        full_disk(1000),
        pytest.raises(RunError, match=r"could not be written \(File too large\).*Free some space"),
    ):
        write(tmp_path / "file", b"x" * 5000)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_disk_that_is_full_only_when_flushed_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=r"No space left on device.*untouched. Free some space"):
        write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written_is_named(public: Path) -> None:
    (public / "closed").mkdir(mode=0o555)
    with powerless(), pytest.raises(RunError, match=r"Permission denied.*Make its folder writable"):
        write(public / "closed" / "file", b"new")
    assert names(public / "closed") == []


@pytest.mark.parametrize("name", ["gone/file", "file/file"])
def test_a_folder_that_is_gone_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Its folder is gone"):
        write(tmp_path / name, b"new")
    assert names(tmp_path) == ["file"]


def test_other_errors_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_write(tmp_path / "file"):
        raise KeyError("x")
    assert names(tmp_path) == []


def test_the_rename_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    def note(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "file", b"new")
    assert seen == [(False, False), (True, True)]


@pytest.mark.parametrize(("number", "fails"), [(22, False), (5, True)])
def test_file_systems_that_cannot_flush_folders_are_borne(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if fails:
        with pytest.raises(RunError, match="Input/output error"):
            write(tmp_path / "file", b"new")
    else:
        write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_stays(tmp_path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"half")
            ready()
            time.sleep(60)

    with child(work) as pid:
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [f".file.{pid}.tmp"]
    assert names(tmp_path) == [f".file.{pid}.tmp"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_what_others_left_stays(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / ".link.1.tmp").symlink_to("target")
    os.mkfifo(tmp_path / ".pipe.1.tmp")
    for name in (".notes.tmp", "notes.1.tmp", ".notes.1.tmp.bak"):
        (tmp_path / name).touch()
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before


def test_what_cannot_be_written_is_found_early(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "labels.csv"):
        with pytest.raises(DataError, match=rf"{path} cannot be written \(.+\); choose another file"):
            check_writable(path)
    (tmp_path / "old.csv").write_text("old")
    check_writable(tmp_path / "old.csv")
    check_writable(tmp_path / "new.csv")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.csv", "old")]
