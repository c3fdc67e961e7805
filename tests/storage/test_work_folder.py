import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reidkit.errors import DataError, RunError
from reidkit.storage import WorkFolder
from tests.injected_faults import child, full_disk

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def begun(path: Path) -> WorkFolder:
    """Two blocks of two rows."""
    work = WorkFolder(path, (2,))
    work.begin({"of": "test"})
    for number in (0, 1):
        work.add(ROWS[2 * number : 2 * number + 2], {"name": number})
    return work


def reopened(path: Path) -> WorkFolder:
    work = WorkFolder(path, (2,))
    work.load()
    return work


def test_blocks_are_found_again(tmp_path: Path) -> None:
    begun(tmp_path / "work")
    work = reopened(tmp_path / "work")
    assert work.read_key() == {"of": "test"}
    assert work.blocks == {1: {"name": 0}, 2: {"name": 1}}
    np.testing.assert_array_equal(work.rows(2, 2), ROWS[2:4])
    np.testing.assert_array_equal(work.gather({2: 2, 1: 2}), ROWS[[2, 3, 0, 1]])
    assert work.add(ROWS[4:], {}) == 3


def test_nothing_of_others_is_left_at_the_beginning(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "notes.txt").touch()
    work = reopened(tmp_path)
    work.begin({"of": "another"})
    assert (work.read_key(), work.blocks) == ({"of": "another"}, {})
    assert {path.name for path in tmp_path.iterdir()} == {"key.json", "notes.txt"}
    assert WorkFolder(tmp_path / "absent", ()).read_key() is None


def test_a_block_that_replaces_others_counts_once_after_a_kill_amid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begun(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(WorkFolder, "_remove", lambda self, number: None)  # killed before it
        work.add(ROWS[:4], {"name": "both"}, replaces=[1, 2])
    assert len(list(tmp_path.glob("*.npy"))) == 3
    work = reopened(tmp_path)
    assert work.blocks == {3: {"name": "both"}}
    assert {path.name for path in tmp_path.glob("*.npy")} == {"000003.npy"}


def test_a_kill_while_a_block_is_written_leaves_those_before_it(tmp_path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        folder = begun(tmp_path)
        ready()
        for number in range(10_000):
            folder.add(ROWS, {"name": number})

    with child(work):
        time.sleep(0.05)
    folder = reopened(tmp_path)
    assert list(folder.blocks) == list(range(1, len(folder.blocks) + 1))
    for number in list(folder.blocks)[2:]:
        np.testing.assert_array_equal(folder.rows(number, 6), ROWS)


@pytest.mark.parametrize("content", ["[", "3", "[" * 100_000, "{}", '{"replaces": 3}', '{"replaces": ["x"]}'])
def test_damaged_blocks_are_named(tmp_path: Path, content: str) -> None:
    begun(tmp_path)
    (tmp_path / "000002.json").write_text(content)
    with pytest.raises(DataError, match=rf"000002\.json is damaged \(.*\); remove the folder {tmp_path}"):
        reopened(tmp_path)


@pytest.mark.parametrize("rows", [ROWS[:3], ROWS[:2, :1], ROWS[:2].astype(np.float64), np.array([[{}]], dtype=object)])
def test_other_rows_are_damage(tmp_path: Path, rows: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> None:
    work = begun(tmp_path)
    np.save(tmp_path / "000002.npy", rows)
    with pytest.raises(DataError, match=r"000002\.npy is damaged"):
        work.gather({1: 2, 2: 2})
    (tmp_path / "000002.npy").unlink()
    with pytest.raises(DataError, match=r"000002\.npy is damaged \(.*No such file"):
        work.rows(2, 2)


def test_a_full_disk_leaves_the_blocks_before_it(tmp_path: Path) -> None:
    work = begun(tmp_path)
    with full_disk(100), pytest.raises(RunError, match="Free some space"):
        work.add(ROWS, {})
    with full_disk(150), pytest.raises(RunError, match=r"gathered\.npy could not be written"):
        work.gather({1: 2, 2: 2})
    assert reopened(tmp_path).blocks == work.blocks
    assert json.loads((tmp_path / "key.json").read_bytes()) == {"of": "test"}


def test_a_kill_while_it_is_removed_leaves_no_work_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(folder: Path) -> None:
        (folder / "000001.npy").unlink()
        raise KeyboardInterrupt

    work = begun(tmp_path / "work")
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            work.remove()
    again = WorkFolder(tmp_path / "work", (2,))
    assert again.read_key() is None
    again.begin({})
    assert (again.blocks, list((tmp_path / "work").glob("0*"))) == ({}, [])
    again.remove()
    assert not (tmp_path / "work").exists()


def test_an_empty_block_has_no_rows(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path, (2,))
    work.begin({})
    work.add(ROWS[:0], {"name": "unreadable"})
    assert work.gather({1: 0}).shape == (0, 2)
