"""`reidkit data` as a user types it."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from reidkit.datasets import CATALOG, load_dataset
from tests.cli.test_commands import elsewhere, reidkit
from tests.datasets.test_benchmarks import miniature, rows
from tests.datasets.test_msmt17 import LINES
from tests.datasets.test_msmt17 import make as make_msmt17

__all__ = ["elsewhere"]  # every test here runs in a folder of its own


def test_check_tells_what_is_there(people: Path) -> None:
    done = reidkit("data", "check", people, "--thumbnails", "sheet.png", "--json", "facts.json")
    assert done.exit_code == 0, done.output
    for words in ("images of a camera", "least / median / most", "smallest image: 16 x 32", "contact sheet: sheet.png"):
        assert words in done.output
    facts = json.loads(Path("facts.json").read_text())
    assert [split["name"] for split in facts["splits"]] == ["train", "query", "gallery"]
    assert facts["problems"] == []
    with Image.open("sheet.png") as sheet:
        assert sheet.height > 12 * 128


def test_a_leak_is_an_exit_code_unless_no_file_is_opened(people: Path, tmp_path: Path) -> None:
    root = shutil.copytree(people, tmp_path / "set")
    shutil.copy(min((root / "bounding_box_train").iterdir()), min((root / "query").iterdir()))
    done = reidkit("data", "check", root)
    assert done.exit_code == 1
    assert "warning: 1 images of query and gallery are training images too" in done.output
    assert reidkit("data", "check", root, "--quick").exit_code == 0


@pytest.mark.parametrize("option", ["--json", "--thumbnails"])
def test_what_cannot_be_written_is_named(people: Path, option: str) -> None:
    Path("file").write_bytes(b"")
    done = reidkit("data", "check", people, "--quick", option, "file/x.png")
    assert done.exit_code == 2
    assert "x.png cannot be written" in done.output


@pytest.mark.parametrize("name", CATALOG)
def test_check_of_every_set_counts_what_is_there_beside_what_is_published(tmp_path: Path, name: str) -> None:
    miniature(name, tmp_path / "data")
    dataset, entry = load_dataset(name, tmp_path / "data"), CATALOG[name]
    done = reidkit("data", "check", name, "--quick")
    assert done.exit_code == 1, done.output
    root = dataset.root.relative_to(tmp_path)
    assert done.output.count(f"{name}: {dataset.version}, at {root}\n") == 1
    assert ("was withdrawn by its authors" in done.output) == (name == "duke")
    for split, members in zip(("train", "query", "gallery"), rows(dataset), strict=True):
        people = {identity for _, identity, _ in members} - {-1}
        if split in entry.expected:
            found = f"warning: {split} has {len(people)} identities and {len(members)} images; published are "
            assert found + "{:,} and {:,}\n".format(*entry.expected[split]) in done.output
        else:
            assert f"{split} has" not in done.output
    cameras = {camera for *_, camera in rows(dataset)[0]} - {-1}
    found = f"train has {len(cameras)} cameras; published are {entry.cameras}"
    assert (found in done.output) == (len(cameras) != entry.cameras)


def test_absent_and_mixed_msmt17_say_what_to_do() -> None:
    def said() -> str:
        done = reidkit("data", "check", "msmt17")
        assert done.exit_code == 2
        assert "Traceback" not in done.output
        return " ".join(done.output.split())

    assert re.search(r"MSMT17 was not found; .* on request by its authors.* Put it into data/msmt17, or name", said())
    root = make_msmt17(Path("data/msmt17"))
    lost = root / "test" / LINES["list_query.txt"][0].split()[0]
    lost.unlink()
    assert re.search(rf"1 of 1 images that .*list_query.txt names do not exist, for instance {lost}; .*take", said())
    (root / "mask_train_v2").mkdir()
    assert "holds folders of both V1 and V2 (train, test, mask_train_v2)" in said()
    assert "keep one of them, with the lists of the same archive" in said()


def test_list_finds_every_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    made = {name: miniature(name, tmp_path / name) for name in CATALOG}
    for name in CATALOG:
        done = reidkit("data", "list", "--data-root", tmp_path / name)
        assert done.exit_code == 0
        (line,) = (line for line in done.output.splitlines() if line.startswith(f"│ {name} "))
        place = made[name].parent if name.startswith("cuhk03") else made[name]
        assert str(place) in line
        assert not re.search(rf"^(.*, )?{name}(,.*)?: ", done.output, re.MULTILINE)  # how to get it


def test_list_says_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    make_msmt17(tmp_path / "data" / "msmt17_v1")
    done = reidkit("data", "list")
    assert done.exit_code == 0
    lines = done.output.split()
    assert "(V1)" in lines
    assert "12,936" in lines
    assert "market: Market-1501 (Zheng et al., ICCV 2015) is linked" in done.output
    assert "vehicleid-800, vehicleid-1600, vehicleid-2400: " in done.output
    assert "msmt17: " not in done.output
