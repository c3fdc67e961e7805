"""`reidkit search` as a user types it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reidkit.cli import cli
from tests.inference.conftest import NAMES, draw_images, save_checkpoint
from tests.tiny import tiny_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a checkpoint, a gallery and queries; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    save_checkpoint(tmp_path / "tiny.pt", tiny_config("synthetic"))
    draw_images(tmp_path / "gallery", NAMES)
    draw_images(tmp_path, ["q.png", "r<i>.png"], seed=3)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)


def search(*arguments: str | Path) -> Result:
    typed = ["search", "tiny.pt", *map(str, arguments), "--device", "cpu", "--precision", "32"]
    return CliRunner().invoke(cli, typed)


def test_a_table_a_page_and_json_from_a_folder_that_grows() -> None:
    files = ("--html", "page.html", "--json", "found.json")
    done = search("--query", "q.png", "r<i>.png", "--gallery", "gallery", "--top", "3", *files)
    assert done.exit_code == 0, done.output
    assert "6 images, 6 embedded now, 0 dropped" in done.output
    assert "probability" not in done.output
    found = json.loads(Path("found.json").read_text())
    assert [Path(row["query"]).name for row in found] == ["q.png", "r<i>.png"]
    for row in found:
        cosines = [match["cosine"] for match in row["matches"]]
        assert len(cosines) == 3
        assert cosines == sorted(cosines, reverse=True)
        assert f"{cosines[0]:.3f}" in done.output
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 + 6
    assert "r&lt;i&gt;.png" in page
    draw_images(Path("gallery"), ["new.png"], seed=5)
    (Path("gallery") / NAMES[0]).unlink()
    again = search("--query", "q.png", "--gallery", "gallery", "--rerank")
    assert again.exit_code == 0, again.output
    assert "6 images, 1 embedded now, 1 dropped" in again.output
    assert "distance" in again.output
    assert "[bold]{{ 1 }}.jpg" in again.output
    assert "two\\nlines.jpg" in again.output


def test_a_saved_index_and_its_calibration(people: Path) -> None:
    options = ("--index", "saved", "--calibrate", str(people))
    done = search("--query", "q.png", "--gallery", "gallery", *options)
    assert done.exit_code == 0, done.output
    assert "calibrated on" in done.output
    draw_images(Path("gallery"), ["new.png"], seed=5)
    later = search("--query", "q.png", "--gallery", "saved", "--json", "found.json")
    assert later.exit_code == 0, later.output
    assert "probability" in later.output
    matches = json.loads(Path("found.json").read_text())[0]["matches"]
    assert len(matches) == 6
    assert all(0 < match["probability"] < 1 for match in matches)
    both = search("--query", "q.png", "--gallery", "saved", "--index", "other")
    assert both.exit_code == 2
    assert "is an index already" in both.output


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    assert search("--query", "q.png", "--gallery", "gallery", "--index", "saved").exit_code == 0
    save_checkpoint(Path("tiny.pt"), tiny_config("synthetic"), seed=1)
    refused = search("--query", "q.png", "--gallery", "saved")
    assert (refused.exit_code, "cannot be compared" in refused.output) == (2, True)
    absent = search("--query", "q.png", "--gallery", "absent")
    assert (absent.exit_code, "is no folder" in absent.output) == (2, True)
    Path("bad.png").write_text("no image")
    unreadable = search("--query", "bad.png", "--gallery", "gallery")
    assert (unreadable.exit_code, "bad.png cannot be read" in unreadable.output) == (2, True)
