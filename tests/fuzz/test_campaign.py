"""The short form of `python -m benchmarks.fuzz`: every reader, the same inputs each time."""

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.campaign import campaign, check, write_input
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, seeds_of


@pytest.mark.parametrize("reader", READERS)
def test_valid_inputs_are_read(tmp_path: Path, reader: str) -> None:
    """Without this a reader that refuses all would pass."""
    folder = tmp_path / "input"
    folder.mkdir()
    READERS[reader].write(folder)
    READERS[reader].read(folder)


@pytest.mark.parametrize("reader", READERS)
def test_hostile_inputs_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    count = max(3, int(100 * READERS[reader].share))
    tally = campaign(reader, count, 0, tmp_path / "work", tmp_path / "keep")
    assert not tally.findings
    assert tally.read + tally.refused == count


def test_inputs_follow_from_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        write_input("settings", 5, 1 if name == "c" else 0, tmp_path / name)
    contents = [(tmp_path / name / "config.toml").read_bytes() for name in ("a", "b", "c")]
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("name", ["new.pt", "features.npz", "c.png", "f.safetensors"])
def test_changes_reach_the_inside_of_containers(name: str) -> None:
    """Most blind changes are caught by a checksum; these must get past it."""
    reader = next(reader for reader in READERS if name in seeds_of(reader))
    data = seeds_of(reader)[name]
    rng = Random(0)
    assert len({mutate(name, data, rng) for _ in range(50)} - {data}) > 40


def test_an_escape_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign itself: a reader that raises, that takes memory, that writes elsewhere, that dies, that hangs."""
    import os
    import time

    faults = {
        "raise": lambda folder: dict[str, int]()["x"],
        "memory": lambda folder: bytearray(b"x") * (2**30 + 2**28),
        "write": lambda folder: (folder.parent / "canary").write_bytes(b""),
        "relative": lambda folder: Path("canary").write_bytes(b""),
        "die": lambda folder: os._exit(3),
        "hang": lambda folder: time.sleep(60),
    }
    monkeypatch.setattr("tests.fuzz.campaign.PATIENCE", 3.0)
    expected = ("KeyError", "MiB", "outside", "outside", "exit code 3", "nothing happened")
    for (name, fault), told in zip(faults.items(), expected, strict=True):
        monkeypatch.setitem(READERS, "labels", READERS["labels"]._replace(read=fault))
        tally = campaign("labels", 1, 0, tmp_path / "work", tmp_path / "keep")
        assert told in tally.findings[0].problem, name
        assert (tmp_path / "keep" / "labels-0-0" / "labels.npy").exists()


def test_memory_of_a_refusal_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_input("labels", 0, 0, folder)
    assert check("labels", folder).bytes < 2**27
