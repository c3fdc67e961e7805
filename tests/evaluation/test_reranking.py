import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidkit.clustering.sparse_rows import Rows
from reidkit.errors import EvaluationError
from reidkit.evaluation import evaluate_distances, rerank, reranking
from tests import naive


def test_golden_distances_map_and_cmc(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("evaluation_a")
    result = rerank(data["query"], data["gallery"])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, data["reranked"], atol=1e-5)
    scores = evaluate_distances(
        result,
        query_ids=data["query_id"],
        gallery_ids=data["gallery_id"],
        query_cameras=data["query_cam"],
        gallery_cameras=data["gallery_cam"],
    )
    assert scores.mAP == pytest.approx(float(data["reranked_mAP"]), abs=1e-5)
    np.testing.assert_allclose(scores.cmc, data["reranked_cmc"], atol=1e-5)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.7), (7, 1, 0.5), (5, 3, 1.0), (6, 2, 0.0), (200, 6, 0.7)])
def test_equals_the_square_matrix_computation(k1: int, k2: int, weight: float) -> None:
    rng = np.random.default_rng(k1)
    query, gallery = rng.normal(size=(12, 8)), rng.normal(size=(50, 8))
    result = rerank(query, gallery, k1=k1, k2=k2, jaccard_weight=weight)
    np.testing.assert_allclose(result, naive.rerank(query, gallery, k1, k2, weight), atol=2e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(9, 6)), rng.normal(size=(40, 6))
    whole = rerank(query, gallery, k1=5)
    monkeypatch.setattr(reranking, "_BLOCK_BYTES", 4 * 49 * 10)  # ten rows of distances at a time
    np.testing.assert_allclose(rerank(query, gallery, k1=5), whole, atol=1e-6)
    monkeypatch.setattr(reranking, "_BLOCK_BYTES", 4 * 40 * 4)  # four queries of results at a time
    features = query.astype(np.float32), gallery.astype(np.float32)
    blocks = list(reranking.reranked_blocks(*features, k1=5, k2=6, jaccard_weight=0.7))
    assert [len(block) for block in blocks] == [4, 4, 1]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_duplicates_and_constant_features_stay_finite() -> None:
    same = rerank(np.ones((3, 4)), np.ones((5, 4)), k1=3, k2=2)
    assert np.isfinite(same).all()
    assert rerank(np.eye(2)[:1], np.eye(2)).shape == (1, 2)


def test_weights_agree_with_their_python() -> None:
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    farthest, members = np.arange(1, 10, dtype=np.float32), np.array([2, 5, 0, 6, 8], np.int32)
    for run in (reranking.fill_weights, reranking.fill_weights.py_func):
        rows = Rows(np.array([0, 2, 5]), members, np.zeros(5, np.float32))
        run(features, farthest, rows, 3)
        for image, part in ((3, slice(0, 2)), (4, slice(2, 5))):
            expected = np.exp(-np.square(features[members[part]] - features[image]).sum(1) / farthest[image])
            np.testing.assert_allclose(rows.weights[part], expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("query", "settings", "named"),
    [
        (np.ones((2, 4)), {"k1": 0}, "k1=0 is below 1"),
        (np.ones((2, 4)), {"k2": 0}, "k2=0 is below 1"),
        (np.ones((2, 4)), {"jaccard_weight": 1.5}, "jaccard_weight=1.5 is outside"),
        (np.ones((2, 3)), {}, "3 dimensions and gallery features 4"),
        (np.full((2, 4), math.nan), {}, "2 of 2 query features hold NaN"),
        (np.ones(4), {}, "have shape"),
        (np.ones((0, 4)), {}, "nothing to re-rank"),
    ],
)
def test_bad_input_is_named(query: Any, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(EvaluationError, match=named):
        rerank(query, np.ones((6, 4)), **settings)
