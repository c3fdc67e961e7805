from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidkit.errors import EvaluationError
from reidkit.evaluation import evaluate_distances, evaluate_ranking, evaluate_reranked, ranking, rerank, reranking
from tests import naive

NAMES = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")


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
    expected = naive_minp(distances, query_ids, gallery_ids, query_cameras, gallery_cameras)
    assert result.mINP == pytest.approx(expected, abs=1e-12)
    for query, precision in enumerate(result.average_precisions):  # as if it were the only one
        labels = (query_ids[[query]], gallery_ids, query_cameras[[query]], gallery_cameras)
        named: dict[str, Any] = dict(zip(NAMES, labels, strict=True))
        if np.isnan(precision):
            with pytest.raises(EvaluationError, match=r"none of the 1 query identities|no query has a valid match"):
                evaluate_distances(distances[[query]], **named)
        else:
            assert precision == pytest.approx(naive.ranking(distances[[query]], *labels, 10)[0], abs=1e-12)
    assert result.mAP == pytest.approx(np.nanmean(result.average_precisions), abs=1e-12)
    assert np.isnan(result.average_precisions).sum() == result.queries - result.valid_queries


def naive_minp(
    distances: naive.Array,
    query_ids: naive.Array,
    gallery_ids: naive.Array,
    query_cameras: naive.Array,
    gallery_cameras: naive.Array,
) -> float:
    """MINP by walking down every sorted ranking (Ye et al., arXiv 2001.04193, section 2.3)."""
    inverse_penalties = []
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        rank, matches, last = 0, 0, 0
        for image in sorted(range(len(row)), key=lambda image: (row[image], image)):
            same_shot = gallery_ids[image] == identity and gallery_cameras[image] == camera != -1
            if same_shot or gallery_ids[image] == -1:
                continue
            rank += 1
            if gallery_ids[image] == identity:
                matches, last = matches + 1, rank
        if matches:
            inverse_penalties.append(matches / last)
    return float(np.mean(inverse_penalties))


def test_the_golden_set_has_the_minp_of_a_sorted_ranking(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("evaluation_a")
    labels = (data["query_id"], data["gallery_id"], data["query_cam"], data["gallery_cam"])
    result = evaluate_distances(data["squared_distance"], **dict(zip(NAMES, labels, strict=True)))
    expected = naive_minp(data["squared_distance"].astype(np.float32), *labels)
    assert result.mINP == pytest.approx(expected, abs=1e-12)
    assert 0 < result.mINP < 1


def test_minp_of_a_ranking_by_hand() -> None:
    result = evaluate_distances(
        [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]],
        query_ids=[1, 2],
        gallery_ids=[1, 2, 1, 2, 3],  # matches at ranks 1 and 3, at ranks 2 and 4
    )
    assert result.mINP == pytest.approx((2 / 3 + 2 / 4) / 2)


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_reranking_in_blocks_scores_as_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((5, 6))
    query_ids, gallery_ids = np.arange(9) % 5, np.arange(40) % 5
    query = centres[query_ids] + rng.standard_normal((9, 6))
    gallery = centres[gallery_ids] + rng.standard_normal((40, 6))
    labels: dict[str, Any] = {
        "query_ids": query_ids,
        "gallery_ids": gallery_ids,
        "query_cameras": rng.integers(0, 3, 9),
        "gallery_cameras": rng.integers(0, 3, 40),
    }
    expected = evaluate_distances(naive.rerank(query, gallery, 7, 3, 0.6), **labels)
    whole = evaluate_distances(rerank(query, gallery, k1=7, k2=3, jaccard_weight=0.6), **labels)
    monkeypatch.setattr(reranking, "_BLOCK_BYTES", 4 * 49 * rows)
    result = evaluate_reranked(query, gallery, **labels, k1=7, k2=3, jaccard_weight=0.6)
    for other in (expected, whole):
        assert (result.mAP, result.mINP) == pytest.approx((other.mAP, other.mINP), abs=1e-9)
        np.testing.assert_array_equal(result.cmc, other.cmc)
    assert result.mAP != evaluate_ranking(query, gallery, **labels).mAP


def test_reranking_names_what_it_cannot_do() -> None:
    ids: dict[str, Any] = {"query_ids": [1], "gallery_ids": [1, 2]}
    with pytest.raises(EvaluationError, match="k1=0 is below 1"):
        evaluate_reranked([[0.0]], [[0.0], [1.0]], **ids, k1=0)
    with pytest.raises(EvaluationError, match="nothing to re-rank: 0 queries"):
        evaluate_reranked(np.zeros((0, 1)), [[0.0], [1.0]], query_ids=[], gallery_ids=[1, 2])
    with pytest.raises(EvaluationError, match="2 dimensions and gallery features 1"):
        evaluate_reranked([[0.0, 1.0]], [[0.0], [1.0]], **ids)


def test_kernels_agree_with_their_python_source() -> None:
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 5, (6, 15)).astype(np.float32)
    labels = ranking._Labels(*(rng.integers(0, 4, size) for size in (6, 15, 6, 15)))
    compiled = ranking._score_queries(distances, labels)
    plain = ranking._score_queries.py_func(distances, labels)
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((9, 4)), rng.standard_normal((30, 4))
    ids: dict[str, Any] = {"query_ids": np.arange(9) % 5, "gallery_ids": np.arange(30) % 5}
    whole = evaluate_ranking(query, gallery, **ids)
    monkeypatch.setattr(ranking, "_BLOCK_BYTES", 4 * 30 * 2)
    blocked = evaluate_ranking(query, gallery, **ids)
    assert (blocked.mAP, blocked.mINP) == (whole.mAP, whole.mINP)


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
