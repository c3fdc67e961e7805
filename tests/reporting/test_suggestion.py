from pathlib import Path

import pytest
from PIL import Image
from scipy.sparse import csr_array

from reidkit.clustering import jaccard_graph
from reidkit.clustering.suggestion import EPS_TRIALS, EpsSuggestion, suggest_eps
from reidkit.errors import DataError
from reidkit.reporting.suggestion import _ordinal, plot_suggestion
from tests.clustering.test_suggestion import features


@pytest.fixture(scope="module")
def suggestion() -> EpsSuggestion:
    return suggest_eps(jaccard_graph(features()[0], k1=12, k2=4, max_distance=EPS_TRIALS[-1]))


def test_a_picture_is_drawn(suggestion: EpsSuggestion, tmp_path: Path) -> None:
    plot_suggestion(suggestion, tmp_path / "eps.png")
    with Image.open(tmp_path / "eps.png") as picture:
        assert picture.width > 1000
        assert len(set(picture.convert("RGB").get_flattened_data())) > 50


def test_the_picture_says_what_was_found(suggestion: EpsSuggestion, tmp_path: Path) -> None:
    plot_suggestion(suggestion, tmp_path / "eps.svg")
    drawn = (tmp_path / "eps.svg").read_text()
    assert suggestion.best is not None
    eps, clusters = suggestion.best.eps, suggestion.best.clusters
    words = [
        f"Suggested eps {eps:g}: {clusters} clusters",
        f"eps {eps:g}: {100 * suggestion.core_share(eps):.0f} % are core points",
        "4th nearest image",
        "Noise",
        "240 images",
    ]
    assert [word for word in words if word not in drawn] == []
    plot_suggestion(suggest_eps(csr_array((5, 5)), min_samples=2), tmp_path / "none.svg")
    drawn = (tmp_path / "none.svg").read_text()
    assert "No eps finds two clusters" in drawn
    assert "2nd nearest image" in drawn


def test_what_cannot_be_drawn_is_named(suggestion: EpsSuggestion, tmp_path: Path) -> None:
    for name in ("eps.xyz", "absent/eps.png"):
        with pytest.raises(DataError, match=f"could not be written to .*{name}"):
            plot_suggestion(suggestion, tmp_path / name)


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")]
)
def test_ordinals(number: int, text: str) -> None:
    assert _ordinal(number) == text
