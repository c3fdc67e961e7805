"""The short form of `python -m benchmarks.fuzz`: every reader, the same inputs each time."""

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from benchmarks import fuzz
from tests.fuzz.campaign import Tally, campaign, check, write_input
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, seeds_of
from tests.fuzz.watch import watched

_COUNT = 40  # inputs of a reader whose share is 1


@pytest.mark.parametrize("reader", READERS)
def test_valid_inputs_are_read(tmp_path: Path, reader: str) -> None:
    """Without this a reader that refuses all would pass."""
    folder = tmp_path / "input"
    folder.mkdir()
    READERS[reader].write(folder)
    READERS[reader].read(folder)


@pytest.mark.parametrize("reader", READERS)
def test_hostile_inputs_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    count = max(3, int(_COUNT * READERS[reader].share))
    tally = campaign(reader, range(count), 0, tmp_path / "work", tmp_path / "keep")
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
        tally = campaign("labels", range(1), 0, tmp_path / "work", tmp_path / "keep")
        assert told in tally.findings[0].problem, name
        assert (tmp_path / "keep" / "labels-0-0" / "labels.npy").exists()


def test_what_is_done_elsewhere_is_seen(tmp_path: Path) -> None:
    """Also where nothing is left of it, and nothing but the attempt was made."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (outside / "file").write_bytes(b"x")
    deeds: dict[str, Callable[[], object]] = {
        "open": lambda: (outside / "a").write_bytes(b""),
        "os.remove": lambda: (outside / "a").unlink(),
        "os.mkdir": lambda: (inside / "link" / "b").mkdir(),
        "os.rename": lambda: (outside / "file").rename(inside / "file"),
        "os.symlink": lambda: (outside / "c").symlink_to("nowhere"),
        "subprocess.Popen": lambda: subprocess.run(["true"], check=True),
        "pickle.find_class": lambda: pickle.loads(pickle.dumps(Path())),
    }
    for event, deed in deeds.items():
        with watched(inside) as seen:
            deed()
        assert seen[0].startswith(event), event
    with watched(inside) as seen:
        (inside / "x").mkdir()
        (inside / "x").rmdir()
        (inside / "link").unlink()
        (outside / "b").stat()
        Path(os.devnull).write_bytes(b"x")
    assert not seen


def test_a_stopped_campaign_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are done are not done again; a part that fails stops no other."""
    tried = []

    def attempt(reader: str, numbers: range, *_: object) -> Tally:
        tried.append((reader, numbers.start))
        if reader == "labels":
            raise OSError("no space")
        return Tally(len(numbers), 0, 1.0, 0.5, 3, 0.6, 2.0, [])

    monkeypatch.setattr(fuzz, "campaign", attempt)
    monkeypatch.setattr(fuzz, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    output = tmp_path / "out.json"
    typed = ["fuzz", "--readers", "labels", "images", "--inputs", "1400", "--least", "600", "--output", str(output)]
    monkeypatch.setattr("sys.argv", typed)
    notes = tmp_path / "out.json.partial"
    known = [["images", 0, 500], 0, [499, 0, 1.0, 0.5, 3, 0.6, 2.0, [["images", 7, "KeyError"]]]]
    notes.write_text(f'{json.dumps(known)}\n{json.dumps([["images", 500, 675], 1, []])}\n{{"cut', encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        fuzz.main()
    assert stopped.value.code == 1
    assert not notes.exists()
    report = json.loads(output.read_bytes())
    assert ("images", 0) not in tried
    assert ("images", 500) in tried
    assert [finding["problem"] for finding in report["findings"]][-1] == "KeyError"
    assert report["findings"][0]["problem"] == "the campaign failed from here to 500: OSError: no space"
    assert report["readers"]["images"]["inputs"] == 675


def test_memory_of_a_refusal_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_input("labels", 0, 0, folder)
    assert check("labels", folder).bytes < 2**27
