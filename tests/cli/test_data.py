"""`reidkit data` as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_commands import elsewhere, reidkit
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
