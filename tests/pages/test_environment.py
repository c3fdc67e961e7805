from pathlib import Path

import pytest

from reidkit.errors import DataError
from reidkit.pages import Bar, Figure, bar_chart, check_page, write_figures


def test_a_page_of_charts(tmp_path: Path) -> None:
    bars = [Bar("0.5", [3.0, 1.0], ["3 kept", "1 left out"])]
    chart = Figure("Images by score", ["kept", "left out"], bar_chart(bars, label="scores", foot="score"))
    write_figures(tmp_path / "scores.html", "Kept <3> of 4", "The cut is at 0.5.", [chart])
    page = (tmp_path / "scores.html").read_text()
    assert "<h1>Kept &lt;3&gt; of 4</h1>" in page
    assert "The cut is at 0.5." in page
    assert page.count("<svg") == 1
    assert '<i class="s2"></i>left out' in page
    assert "<title>3 kept</title>" in page
    assert "run folder" not in page


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eps.png", "eps.png is no name for a plot, .* such as eps.html"),
        ("no/eps.html", "cannot be written"),
    ],
)
def test_a_path_that_cannot_be_a_page_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_page(tmp_path / name)
    check_page(tmp_path / "eps.html")
    assert list(tmp_path.iterdir()) == []
