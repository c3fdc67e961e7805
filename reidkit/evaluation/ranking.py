"""MAP and CMC of the Market-1501 protocol (Zheng et al., ICCV 2015) and mINP, without sorting the gallery."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from reidkit.errors import EvaluationError
from reidkit.evaluation.checks import as_features, check_same_dimensions
from reidkit.evaluation.reranking import reranked_blocks

__all__ = ["RankingResult", "evaluate_distances", "evaluate_ranking", "evaluate_reranked"]

_UNKNOWN = -1  # a camera id; such images are nobody's same-camera image
_JUNK = -1  # an identity; such gallery images never enter
_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class RankingResult:
    """Scores of the rankings of a gallery for a set of queries."""

    mAP: float  # noqa: N815  (the field's name)
    """Mean average precision over the valid queries, in [0, 1]."""
    mINP: float  # noqa: N815  (the field's name)
    """Mean inverse negative penalty over the valid queries, in (0, 1]: matches / rank of the last of them (Ye et al.,
    arXiv 2001.04193, section 2.3). The share of what one has to look at that is worth it, to find every match."""
    cmc: NDArray[np.float64]
    """(ranks,) share of valid queries whose first match is at rank 1, 2, ... or better, in [0, 1]."""
    valid_queries: int
    """Queries that have at least one match in the gallery after the protocol's removals."""
    queries: int
    """All queries, Q."""
    average_precisions: NDArray[np.float64]
    """(Q,) average precision of each query, in [0, 1]; NaN where it has no valid match."""


class _Labels(NamedTuple):
    """Identities and cameras of the queries (Q,) and of the gallery (G,), int64."""

    query_ids: NDArray[np.int64]
    gallery_ids: NDArray[np.int64]
    query_cameras: NDArray[np.int64]
    gallery_cameras: NDArray[np.int64]


def evaluate_ranking(
    query: ArrayLike,
    gallery: ArrayLike,
    *,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    ranks: int = 50,
) -> RankingResult:
    """Rank the gallery for every query by Euclidean distance and score the rankings.

    Gallery images with a query's identity *and* camera are left out for that query; identity -1 (junk) is left out
    always; any other identity that no query has (distractors) stays. Average precision is scikit-learn's; CMC and mINP
    break ties by position in the gallery. Memory: blocks of queries of at most 256 MiB, never Q x G.

    Args:
        query: (Q, D) features, L2-normalised if cosine ranking is meant.
        gallery: (G, D) features.
        query_ids: (Q,) identities.
        gallery_ids: (G,) identities; -1 is junk.
        query_cameras: (Q,) 0-based camera ids; -1, or None for all of them, is unknown: nothing is left out.
        gallery_cameras: (G,) the same for the gallery.
        ranks: Length of the CMC curve.

    Returns:
        mAP, mINP and CMC as fractions.

    Raises:
        EvaluationError: Shapes disagree, features are not finite, or no query has a match.
    """
    query_array, gallery_array = as_features(query, "query"), as_features(gallery, "gallery")
    check_same_dimensions(query_array, gallery_array)
    labels = _labels(query_ids, gallery_ids, query_cameras, gallery_cameras, len(query_array), len(gallery_array))
    return _score_blocks(_euclidean_blocks(query_array, gallery_array), labels, ranks)


def evaluate_reranked(  # noqa: PLR0913
    query: ArrayLike,
    gallery: ArrayLike,
    *,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    ranks: int = 50,
    k1: int = 20,
    k2: int = 6,
    jaccard_weight: float = 0.7,
) -> RankingResult:
    """Re-rank the gallery for every query and score the rankings, as `evaluate_distances` does with those of `rerank`.

    The arguments are those of `evaluate_ranking` and of `rerank`. Memory: blocks of queries of at most 128 MiB beside
    sparse neighbourhoods, never Q x G.

    Raises:
        EvaluationError: As in `evaluate_ranking`, or a parameter is out of bounds.
    """
    query_array, gallery_array = as_features(query, "query"), as_features(gallery, "gallery")
    labels = _labels(query_ids, gallery_ids, query_cameras, gallery_cameras, len(query_array), len(gallery_array))
    blocks = reranked_blocks(query_array, gallery_array, k1=k1, k2=k2, jaccard_weight=jaccard_weight)
    return _score_blocks(blocks, labels, ranks)


def evaluate_distances(
    distances: ArrayLike,
    *,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    ranks: int = 50,
) -> RankingResult:
    """Score given distances (Q, G), for instance re-ranked ones; everything else is as in `evaluate_ranking`."""
    array = np.asarray(distances, dtype=np.float32)
    if array.ndim != 2:
        raise EvaluationError(f"distances have shape {array.shape}; expected (Q, G)")
    if not np.isfinite(array).all():
        raise EvaluationError("distances hold NaN or infinite values; look for a diverged model or corrupt features")
    labels = _labels(query_ids, gallery_ids, query_cameras, gallery_cameras, *array.shape)
    return _score_blocks([array], labels, ranks)


def _labels(
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None,
    gallery_cameras: ArrayLike | None,
    queries: int,
    images: int,
) -> _Labels:
    def column(values: ArrayLike | None, size: int, name: str) -> NDArray[np.int64]:
        array = np.full(size, _UNKNOWN) if values is None else np.asarray(values)
        if array.shape != (size,):
            raise EvaluationError(f"{name} has shape {array.shape}; expected ({size},), one entry per feature")
        return np.ascontiguousarray(array, dtype=np.int64)

    return _Labels(
        column(query_ids, queries, "query_ids"),
        column(gallery_ids, images, "gallery_ids"),
        column(query_cameras, queries, "query_cameras"),
        column(gallery_cameras, images, "gallery_cameras"),
    )


def _euclidean_blocks(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Consecutive rows of the distances (Q, G), squared and shifted: |q|^2 changes no ranking of a row."""
    norms = np.square(gallery).sum(1)
    rows = max(1, _BLOCK_BYTES // (4 * max(1, len(gallery))))
    for start in range(0, max(1, len(query)), rows):
        yield norms - 2 * (query[start : start + rows] @ gallery.T)


def _score_blocks(blocks: Iterable[NDArray[np.float32]], labels: _Labels, ranks: int) -> RankingResult:
    """Score distances (Q, G) that come a few rows at a time."""
    scores, start = [], 0
    for distances in blocks:
        rows = slice(start, start + len(distances))
        block = labels._replace(query_ids=labels.query_ids[rows], query_cameras=labels.query_cameras[rows])
        scores.append(_score_queries(distances, block))
        start = rows.stop
    precisions, inverse_penalties, first_ranks = map(np.concatenate, zip(*scores, strict=True))
    valid = first_ranks >= 0
    if not valid.any():
        raise EvaluationError(_why_no_match(labels))
    hits = np.bincount(np.minimum(first_ranks[valid], ranks), minlength=ranks + 1)[:ranks]
    count = int(valid.sum())
    return RankingResult(
        mAP=float(precisions[valid].mean()),
        mINP=float(inverse_penalties[valid].mean()),
        cmc=hits.cumsum() / count,
        valid_queries=count,
        queries=len(valid),
        average_precisions=np.where(valid, precisions, np.nan),
    )


def _why_no_match(labels: _Labels) -> str:
    shared = np.intersect1d(labels.query_ids, labels.gallery_ids)
    if len(labels.query_ids) == 0 or len(labels.gallery_ids) == 0:
        return (
            f"there is nothing to rank: {len(labels.query_ids):,} queries, {len(labels.gallery_ids):,} gallery images"
        )
    if len(shared) == 0:
        return (
            f"none of the {len(np.unique(labels.query_ids)):,} query identities occurs among the "
            f"{len(np.unique(labels.gallery_ids)):,} gallery identities; check that both splits number identities alike"
        )
    cameras = np.union1d(labels.query_cameras, labels.gallery_cameras)
    where = f"camera id {cameras[0]}" if len(cameras) == 1 else "the query's own camera"
    return (
        f"no query has a valid match: {len(shared):,} identities occur in query and gallery, but every such gallery "
        f"image has {where}, and images of the same identity and camera are left out by the Market-1501 protocol; "
        "give true camera ids, or evaluate without them (--no-cameras)"
    )


@njit(cache=True, parallel=True)
def _score_queries(distances: Any, labels: Any) -> Any:
    """Average precision, inverse negative penalty and 0-based rank of the first match of every query.

    distances (Q, G) float32. Returns (Q,) float64, (Q,) float64 and (Q,) int64; a query without a match gets 0, 0 and
    -1. Allocates O(matches) per query.
    """
    queries = distances.shape[0]
    precisions = np.zeros(queries, dtype=np.float64)
    inverse_penalties = np.zeros(queries, dtype=np.float64)
    first_ranks = np.full(queries, -1, dtype=np.int64)
    for query in prange(queries):
        matches = _matches(distances[query], query, labels)
        if len(matches) > 0:
            precisions[query] = _average_precision(distances[query], matches, query, labels)
            inverse_penalties[query] = len(matches) / (1 + _rank(distances[query], matches[-1], query, labels))
            first_ranks[query] = _rank(distances[query], matches[0], query, labels)
    return precisions, inverse_penalties, first_ranks


@njit(cache=True)
def _enters(query: int, image: int, labels: Any) -> Any:
    """Whether a gallery image takes part in a query's ranking: not junk, not the same identity and camera."""
    identity, camera = labels.gallery_ids[image], labels.gallery_cameras[image]
    same_shot = camera >= 0 and camera == labels.query_cameras[query] and identity == labels.query_ids[query]
    return identity != _JUNK and not same_shot


@njit(cache=True)
def _matches(row: Any, query: int, labels: Any) -> Any:
    """Gallery images (M,) that are valid matches of one query, in a stable ascending order of distance."""
    same = np.flatnonzero(labels.gallery_ids == labels.query_ids[query])
    images = np.array([image for image in same if _enters(query, int(image), labels)], dtype=np.int64)
    return images[np.argsort(row[images], kind="mergesort")]


@njit(cache=True)
def _average_precision(row: Any, matches: Any, query: int, labels: Any) -> Any:
    """AP = 1/M sum over matches m of |{matches <= m}| / |{images <= m}|: scikit-learn's, ties share a threshold.

    matches (M,) ascending. An image counts for the first match at least as far as itself; a running sum does the rest,
    in O(G log M).
    """
    nearest = row[matches]
    counts = np.zeros(len(matches) + 1, dtype=np.int64)
    for image in range(len(row)):
        if _enters(query, image, labels):
            counts[np.searchsorted(nearest, row[image])] += 1
    total, images = 0.0, 0
    for index in range(len(matches)):
        images += counts[index]
        total += np.searchsorted(nearest, nearest[index], side="right") / images
    return total / len(matches)


@njit(cache=True)
def _rank(row: Any, match: int, query: int, labels: Any) -> Any:
    """0-based rank of a match in a stable ascending order of the images that enter."""
    rank = 0
    for image in range(len(row)):
        before = row[image] < row[match] or (row[image] == row[match] and image < match)
        rank += before and _enters(query, image, labels)
    return rank
