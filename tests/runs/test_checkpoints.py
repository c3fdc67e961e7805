import logging
import os
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reidkit.backbones import read_checkpoint
from reidkit.errors import RunError
from reidkit.runs import checkpoints
from reidkit.runs.checkpoints import has_checkpoint, is_intact, load_latest, write_checkpoint
from tests.injected_faults import child, full_disk


def state(number: int) -> dict[str, Any]:
    """A state that tells its number; torch writes it in some ten parts."""
    return {"number": number, "history": [{"epoch": epoch} for epoch in range(number)], "w": torch.full((999,), number)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of which the last has number 2."""
    for number in (1, 2):
        write_checkpoint(tmp_path, "last", state(number))
    return tmp_path


def number(folder: Path) -> int:
    loaded = load_latest(folder)
    assert loaded is not None
    assert (loaded["w"] == loaded["number"]).all()
    return int(loaded["number"])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_last_is_loaded_and_the_one_before_it_is_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert names(folder) == ["last.pt", "previous.pt"]
    assert number(folder) == 2
    assert read_checkpoint(folder / "previous.pt")["number"] == 1
    assert not caplog.records


def test_where_nothing_was_written_nothing_is_loaded(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    assert load_latest(tmp_path) is None
    write_checkpoint(tmp_path, "best", state(1))
    assert not has_checkpoint(tmp_path)


def test_others_read_the_file_as_ever(folder: Path) -> None:
    for loaded in (torch.load(folder / "last.pt", mmap=True), read_checkpoint(folder / "last.pt")):
        assert loaded["number"] == 2
        assert torch.equal(loaded["w"], torch.full((999,), 2))


def test_best_displaces_nothing(folder: Path) -> None:
    write_checkpoint(folder, "best", state(3))
    assert names(folder) == ["best.pt", "last.pt", "previous.pt"]
    assert is_intact(folder / "best.pt")
    assert number(folder) == 2


def test_every_damage_is_seen(folder: Path) -> None:
    path = folder / "last.pt"
    content = path.read_bytes()
    assert is_intact(path)
    draw = random.Random(0)
    for place in [0, len(content) // 2, len(content) - 90, *(draw.randrange(len(content) - 81) for _ in range(50))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        assert is_intact(path) is False
    for place in range(len(content) - 81, len(content)):  # in the checksum itself
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert not is_intact(path)
    for length in (0, 1, 80, 81, len(content) // 2, len(content) - 81, len(content) - 1):
        path.write_bytes(content[:length])
        assert is_intact(path) is None


@pytest.mark.parametrize("damage", ["flipped", "empty", "half", "checksum cut off", "garbage", "missing"])
def test_a_damaged_last_gives_way_to_the_one_before(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "last.pt"
    content = path.read_bytes()
    damaged = {
        "flipped": content[:900] + bytes([content[900] ^ 1]) + content[901:],
        "empty": b"",
        "half": content[: len(content) // 2],
        "checksum cut off": content[:-81],
        "garbage": b"garbage" * 100,
    }
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    assert number(folder) == 1
    assert f"{path} is damaged: " in caplog.text
    assert "previous.pt, whose last complete epoch is 0; what was done since is lost and done again" in caplog.text
    caplog.clear()
    assert is_intact(path)
    assert number(folder) == 1  # and has taken its place
    assert not caplog.records
    write_checkpoint(folder, "last", state(5))
    assert number(folder) == 5
    assert read_checkpoint(folder / "previous.pt")["number"] == 1
    assert names(folder) == ["last.pt", "previous.pt"]


def test_if_both_are_damaged_nothing_is_loaded(folder: Path) -> None:
    for name in ("last", "previous"):
        (folder / f"{name}.pt").write_bytes(b"")
    with pytest.raises(RunError, match=r"last\.pt is damaged: .* is empty.*previous\.pt.*not usable either.*--output"):
        load_latest(folder)


def test_other_formats_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"format": 1, "reidkit": "0.1.0"}, folder / "last.pt")
    with pytest.raises(RunError, match=r"has format 1, this version reads 2; resume with .* \(0\.1\.0\)"):
        load_latest(folder)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_FORMAT", 99)
    write_checkpoint(folder, "last", state(3))
    monkeypatch.undo()
    with pytest.raises(RunError, match="has format 99, this version reads 2"):
        load_latest(folder)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("signed", [False, True])
def test_code_in_a_checkpoint_is_refused_by_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    folder, trap = tmp_path / "checkpoints", tmp_path / "trap"
    folder.mkdir()
    if signed:
        write_checkpoint(folder, "last", {"trap": Trap(trap)})
    else:
        (folder / "last.pt").write_bytes(pickle.dumps({"format": 2, "trap": Trap(trap)}, 2))
    with pytest.raises(RunError, match=r"last\.pt was not read: it asks for '(posix|os).mkdir', which is code"):
        load_latest(folder)
    assert not trap.exists()


def test_a_file_that_the_system_cannot_read_is_not_called_damaged(folder: Path) -> None:
    (folder / "last.pt").unlink()
    (folder / "last.pt").mkdir()
    with pytest.raises(RunError, match=r"cannot be read \(Is a directory\)"):
        load_latest(folder)
    assert (folder / "last.pt").is_dir()


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_a_full_disk_leaves_all_checkpoints(folder: Path, room: int) -> None:
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with full_disk(room), pytest.raises(RunError, match=r"last\.pt could not be written \(File too large\).*--resume"):
        write_checkpoint(folder, "last", state(3))
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_what_torch_cannot_save_is_no_full_disk(folder: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(folder, "last", {"lambda": lambda: None})
    assert number(folder) == 2


def test_file_systems_without_hard_links_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_checkpoint(folder, "last", state(3))
    assert names(folder) == ["last.pt", "previous.pt"]
    assert number(folder) == 3
    assert read_checkpoint(folder / "previous.pt")["number"] == 2
    (folder / "last.pt").write_bytes(b"")
    assert number(folder) == 2


def test_no_kill_in_the_midst_of_saving_damages_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw, known = random.Random(1), 0
    for _ in range(15):
        start = known

        def work(ready: Callable[[], None], start: int = start) -> None:
            ready()
            for later in range(start + 1, start + 10_000):
                write_checkpoint(tmp_path, "last", state(later))

        with child(work):
            time.sleep(draw.uniform(0.001, 0.03))
        if has_checkpoint(tmp_path):
            assert is_intact(tmp_path / "last.pt")
            known = number(tmp_path)
        assert known >= start
    assert known > 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
