from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidkit.errors import EvaluationError
from reidkit.evaluation import evaluate_distances, evaluate_ranking, ranking
from tests import naive


def test_golden_map_and_cmc(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("evaluation_a")
    labels = {
        "query_ids": data["query_id"],
        "gallery_ids": data["gallery_id"],
        "query_cameras": data["query_cam"],
        "gallery_cameras": data["gallery_cam"],
    }
    result = evaluate_ranking(data["query"], data["gallery"], **labels)
    assert result.mAP == pytest.approx(float(data["mAP"]), abs=1e-5)
    np.testing.assert_allclose(result.cmc, data["cmc"], atol=1e-5)
    given = evaluate_distances(data["squared_distance"], **labels)
    assert given.mAP == pytest.approx(float(data["mAP"]), abs=1e-5)
    reranked = evaluate_distances(data["reranked"], **labels)
    assert reranked.mAP == pytest.approx(float(data["reranked_mAP"]), abs=1e-5)
    np.testing.assert_allclose(reranked.cmc, data["reranked_cmc"], atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [4, 1000])  # few levels: many ties
def test_equals_sorting_and_scikit_learn(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, levels, (20, 60)).astype(np.float32)
    query_ids, gallery_ids = rng.integers(0, 9, 20), rng.integers(-1, 9, 60)
    query_cameras, gallery_cameras = rng.integers(-1, 3, 20), rng.integers(-1, 3, 60)
    result = evaluate_distances(
        distances,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        ranks=10,
    )
    expected_map, expected_cmc = naive.ranking(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, 10)
    assert result.mAP == pytest.approx(expected_map, abs=1e-12)
    np.testing.assert_allclose(result.cmc, expected_cmc, atol=1e-12)


def test_kernels_agree_with_their_python_source() -> None:
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 5, (6, 15)).astype(np.float32)
    labels = ranking._Labels(*(rng.integers(0, 4, size) for size in (6, 15, 6, 15)))
    compiled = ranking._score_queries(distances, labels)
    plain = ranking._score_queries.py_func(distances, labels)
    np.testing.assert_array_equal(compiled[0], plain[0])
    np.testing.assert_array_equal(compiled[1], plain[1])


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((9, 4)), rng.standard_normal((30, 4))
    ids: dict[str, Any] = {"query_ids": np.arange(9) % 5, "gallery_ids": np.arange(30) % 5}
    whole = evaluate_ranking(query, gallery, **ids)
    monkeypatch.setattr(ranking, "_BLOCK_BYTES", 4 * 30 * 2)
    assert evaluate_ranking(query, gallery, **ids).mAP == whole.mAP


def test_same_camera_matches_are_dropped_and_distractors_stay() -> None:
    query, gallery = np.array([[0.0]]), np.array([[0.0], [1.0], [2.0], [0.5]])
    result = evaluate_ranking(
        query,
        gallery,
        query_ids=[7],
        gallery_ids=[7, 0, 7, -1],  # same camera, distractor, match, junk
        query_cameras=[2],
        gallery_cameras=[2, 0, 1, 1],
    )
    assert result.mAP == pytest.approx(0.5)
    np.testing.assert_array_equal(result.cmc[:3], [0, 1, 1])


def test_without_cameras_nothing_is_dropped() -> None:
    result = evaluate_ranking([[0.0]], [[0.0], [1.0]], query_ids=[1], gallery_ids=[1, 2])
    assert result.mAP == 1
    assert (result.valid_queries, result.queries) == (1, 1)


def test_queries_without_a_match_do_not_count() -> None:
    result = evaluate_ranking([[0.0], [0.0]], [[0.0], [1.0]], query_ids=[1, 5], gallery_ids=[1, 2])
    assert result.mAP == 1
    assert (result.valid_queries, result.queries) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_cameras": [0], "gallery_cameras": [0, 0]}, "every such gallery image has camera id 0.*--no-cameras"),
        ({"query_ids": [9]}, "none of the 1 query identities occurs among the 2 gallery identities"),
        ({"query_ids": [1, 2]}, r"query_ids has shape \(2,\); expected \(1,\)"),
        ({"query": [[np.nan]]}, "1 of 1 query features hold NaN"),
        ({"query": [0.0]}, r"query features have shape \(1,\)"),
        ({"query": [[0.0, 1.0]]}, "2 dimensions and gallery features 1"),
        ({"query": np.zeros((0, 1)), "query_ids": []}, "nothing to rank: 0 queries, 2 gallery images"),
    ],
)
def test_errors_name_value_rule_and_remedy(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": [[0.0]],
        "gallery": [[0.0], [1.0]],
        "query_ids": [1],
        "gallery_ids": [1, 2],
        **changes,
    }
    with pytest.raises(EvaluationError, match=message):
        evaluate_ranking(**arguments)


def test_distances_must_be_a_finite_matrix() -> None:
    with pytest.raises(EvaluationError, match=r"shape \(1,\); expected \(Q, G\)"):
        evaluate_distances([0.0], query_ids=[0], gallery_ids=[0])
    with pytest.raises(EvaluationError, match="NaN or infinite"):
        evaluate_distances([[np.inf]], query_ids=[0], gallery_ids=[0])
