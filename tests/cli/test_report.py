"""`reidkit report`."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reidkit.cli import cli
from tests.reporting.folders import make_run, records


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_the_page_of_a_run_is_written_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", records())
    (run / "report.html").write_text("old")
    done = report(run)
    assert (done.exit_code, done.output) == (0, f"report {run / 'report.html'}\n")
    assert "USL on market" in (run / "report.html").read_text(encoding="utf-8")


def test_the_page_may_lie_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", records())
    assert report(run, "-o", tmp_path / "page.html").exit_code == 0
    assert "USL on market" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not (run / "report.html").exists()


def test_several_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / name, records()) for name in ("a", "b")]
    assert report(*runs).output == "report comparison.html\n"
    assert "Comparison of 2 runs" in (tmp_path / "comparison.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("names", [["none"], ["run", "none"]])
def test_a_folder_that_is_no_run(tmp_path: Path, names: list[str]) -> None:
    make_run(tmp_path / "run", records())
    done = report(*(tmp_path / name for name in names), "-o", tmp_path / "page.html")
    assert done.exit_code == 2
    assert "is not a run folder" in done.output
    assert not (tmp_path / "page.html").exists()


def test_a_run_must_be_named() -> None:
    done = report()
    assert done.exit_code == 2
    assert "Missing argument 'RUN...'" in done.output
