import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import silhouette_samples

from reidkit.clustering import jaccard_graph
from reidkit.clustering.suggestion import EPS_TRIALS, EpsSuggestion, suggest_eps
from reidkit.errors import ClusteringError
from tests import naive


def features(n: int = 240, spread: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features around n / 12 centres, and which centre."""
    random = np.random.default_rng(0)
    centre = np.repeat(np.arange(n // 12), 12)
    points = random.standard_normal((n // 12, 64))[centre] + spread * random.standard_normal((n, 64))
    return points.astype(np.float32), centre


@pytest.fixture(scope="module")
def suggestion() -> EpsSuggestion:
    return suggest_eps(jaccard_graph(features()[0], k1=12, k2=4, max_distance=EPS_TRIALS[-1]))


def test_trials_are_those_of_the_dense_matrix(suggestion: EpsSuggestion) -> None:
    dense = naive.jaccard_distance(features()[0], 12, 4)
    dense[dense > EPS_TRIALS[-1]] = 1
    assert [trial.eps for trial in suggestion.trials] == list(EPS_TRIALS)
    for trial in suggestion.trials:
        labels = naive.dbscan(dense, trial.eps, 4)
        kept = labels >= 0
        assert trial.clusters == labels.max() + 1
        assert trial.noise == pytest.approx(1 - kept.mean())
        assert trial.largest == (np.bincount(labels[kept]).max() if kept.any() else 0)
        if trial.clusters > 1:
            values = silhouette_samples(dense[np.ix_(kept, kept)], labels[kept], metric="precomputed")
            assert trial.score == pytest.approx(values.sum() / len(labels), abs=1e-5)
        assert suggestion.core_share(trial.eps) == ((dense <= np.float32(trial.eps)).sum(1) >= 4).mean()


def test_the_suggestion_finds_the_centres(suggestion: EpsSuggestion) -> None:
    assert suggestion.best is not None
    assert suggestion.best.score == max(trial.score for trial in suggestion.trials)
    assert suggestion.best.clusters == len(set(features()[1]))
    assert suggestion.best.noise < 0.1


def test_the_curve_rises_and_is_one_beyond_the_graph(suggestion: EpsSuggestion) -> None:
    assert len(suggestion.distances) == 240
    assert (np.diff(suggestion.distances) >= 0).all()
    cut = suggest_eps(csr_array((5, 5)), min_samples=2)
    assert cut.distances.tolist() == [1] * 5
    assert cut.best is None


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ClusteringError, match="no square sparse matrix"):
        suggest_eps(np.eye(3))
