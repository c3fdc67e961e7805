from pathlib import Path

import pytest

from reidkit.errors import RunError
from reidkit.reporting import write_comparison
from tests.reporting.folders import SETTINGS, make_run, records
from tests.reporting.test_report_page import NASTY, Page


def test_metrics_curves_and_differences(tmp_path: Path) -> None:
    better = [line | ({"mAP": 70.0} if "mAP" in line else {}) for line in records()]
    first = make_run(tmp_path / "one", records())
    second = make_run(tmp_path / "two", better[:3], SETTINGS.replace("seed = 1", "seed = 2"))
    path = tmp_path / "page.html"
    assert write_comparison([first, second], path) == path
    page = Page(path)
    assert "Comparison of 2 runs" in page.words
    assert "mAP, % 55.5 70.0 ★" in page.words
    assert "best mAP, % 60.0 70.0 ★" in page.words
    assert "Rank-1, % 82.0 ★ 80.0" in page.words
    assert "state finished: 4 epochs unfinished: 2 of 4 epochs" in page.words
    assert "noise, % of the images 12.5 50.0" in page.words
    assert "Settings that differ one two seed 1 2 Environment" in page.words
    assert "The runs do not differ in it." in page.words
    assert len(page.all("svg")) == 7
    assert "epoch 4: one 55.5 %" in page.words
    assert "epoch 2: two 70.0 %" in page.words
    assert page.all("script") == []


def test_runs_of_one_name_are_told_apart_and_escaped(tmp_path: Path) -> None:
    for name in ("a", "<b>"):
        (tmp_path / name).mkdir()
    folders = [
        make_run(tmp_path / name / "run", records(), SETTINGS.replace('"market"', f"'''{name}{NASTY}'''"))
        for name in ("a", "<b>")
    ]
    page = Page(write_comparison(folders, tmp_path / "page.html"))
    assert "a/run <b>/run" in page.words
    assert f"<b>{NASTY}" in page.words
    assert "u" not in {tag for tag, _ in page.elements}


def test_runs_that_have_only_begun(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, []) for name in ("a", "b")]
    (folders[1] / "config.toml").write_text("[")
    page = Page(write_comparison(folders, tmp_path / "page.html"))
    assert "Curves a b No epoch has been recorded yet." in page.words
    assert "b: config.toml is damaged" in page.words
    assert page.all("svg") == []


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / str(index), []) for index in range(9)]
    page = tmp_path / "page.html"
    with pytest.raises(RunError, match="9 runs cannot be compared on one page; name 2 to 8"):
        write_comparison(folders, page)
    with pytest.raises(RunError, match="is named twice"):
        write_comparison([folders[0], tmp_path / "x" / ".." / "0"], page)
    with pytest.raises(RunError, match="is not a run folder"):
        write_comparison([folders[0], tmp_path], page)
    assert not page.exists()
