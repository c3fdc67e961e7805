from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from scipy.sparse import csr_array

from reidkit.clustering import jaccard_graph
from reidkit.clustering.suggestion import EPS_TRIALS, EpsSuggestion, suggest_eps
from reidkit.errors import DataError
from reidkit.reporting import plot_suggestion
from tests.clustering.test_suggestion import features


@pytest.fixture(scope="module")
def suggestion() -> EpsSuggestion:
    return suggest_eps(jaccard_graph(features()[0], k1=12, k2=4, max_distance=EPS_TRIALS[-1]))


def tooltips(page: str) -> list[str]:
    charts = [fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in page.split("<svg")[1:]]
    assert len(charts) == 4
    return [title.text or "" for chart in charts for title in chart.iter("title")]


def test_the_page_shows_what_was_found(suggestion: EpsSuggestion, tmp_path: Path) -> None:
    plot_suggestion(suggestion, tmp_path / "eps.html")
    page = (tmp_path / "eps.html").read_text()
    best = suggestion.best
    assert best is not None
    assert f"<h1>Suggested eps {best.eps:g}: {best.clusters} clusters, " in page
    assert "240 images; " in page
    assert "DBSCAN with min_samples 4." in page
    tips = tooltips(page)
    assert tips.count(f"eps {best.eps:g}") == 4
    expected = [
        f"eps {best.eps:g}: core points {100 * suggestion.core_share(best.eps):.1f} %",
        *(f"eps {trial.eps:g}: clusters {trial.clusters:,}" for trial in suggestion.trials),
        *(f"eps {trial.eps:g}: noise {100 * trial.noise:.1f} %" for trial in suggestion.trials),
        f"eps {best.eps:g}: score {best.score:.3f}",
    ]
    assert [tip for tip in expected if tip not in tips] == []


def test_no_suggestion_is_said(tmp_path: Path) -> None:
    plot_suggestion(suggest_eps(csr_array((5, 5)), min_samples=2), tmp_path / "none.html")
    page = (tmp_path / "none.html").read_text()
    assert "<h1>No eps finds two clusters</h1>" in page
    assert [tip for tip in tooltips(page) if "score" in tip or ":" not in tip] == []


def test_a_page_that_cannot_be_written_is_refused(suggestion: EpsSuggestion, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"eps\.png is no name for a plot, which is an HTML page; .* as eps\.html"):
        plot_suggestion(suggestion, tmp_path / "eps.png")
    with pytest.raises(DataError, match=r"absent/eps\.html cannot be written"):
        plot_suggestion(suggestion, tmp_path / "absent" / "eps.html")
