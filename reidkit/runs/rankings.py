"""Rank lists of an evaluation: how well each query did, and what the best, the worst and the median ones found."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import JUNK, UNKNOWN, Split
from reidkit.errors import EvaluationError, RunError
from reidkit.evaluation import evaluate_distances
from reidkit.runs.run_folder import RunFolder
from reidkit.storage import atomic_write, read_arrays

__all__ = ["RANKINGS", "RankList", "Rankings", "read_rankings", "save_rankings"]

RANKINGS = "rankings.npz"
"""What a run folder calls the rank lists of its last evaluation."""

Kind = Literal["best", "median", "worst"]
Floats = NDArray[np.float32]

_PER_KIND = 12
_LENGTH = 10
_BLOCK_BYTES = 128 * 2**20
_MISSING = -1  # the gallery row of a place that a short gallery leaves empty
_COLUMNS = {
    "kinds": ("U", 1),
    "queries": ("i", 1),
    "query_paths": ("U", 1),
    "rows": ("i", 2),
    "scores": ("f", 2),
    "right": ("b", 2),
    "gallery_paths": ("U", 2),
}
"""Arrays of the file beside `average_precisions`: type and number of dimensions."""


class RankList(NamedTuple):
    """The first places of one query; images that the protocol leaves out are not among them."""

    kind: Kind
    query: int
    """The query's row in its split."""
    average_precision: float
    """In [0, 1]."""
    path: Path
    """The query's image."""
    rows: list[int]
    """Rows of the gallery's split, the most alike first; at most 10."""
    scores: list[float]
    """Cosine similarity of each."""
    right: list[bool]
    """Whether each is of the query's identity."""
    paths: list[Path]
    """The image of each."""


class Rankings(NamedTuple):
    """What `save_rankings` stored."""

    average_precisions: Floats
    """(Q,) in [0, 1]; NaN for queries without a valid match."""
    lists: list[RankList]
    """At most 12 of each kind: the best, the median and the worst queries, of as many identities as there are."""


def save_rankings(
    run: RunFolder,
    query_features: NDArray[np.floating[Any]],
    gallery_features: NDArray[np.floating[Any]],
    query: Split,
    gallery: Split,
) -> None:
    """Score each query by the Market-1501 protocol (see `evaluate_ranking`) and write rankings.npz.

    The file names at most 36 queries with 10 gallery images each, whatever Q and G are. Memory: blocks of queries of at
    most 128 MiB, never Q x G.

    Args:
        run: Where it is written; an older file is replaced.
        query_features: (Q, D), L2-normalised.
        gallery_features: (G, D), L2-normalised.
        query: The queries.
        gallery: The gallery.

    Raises:
        EvaluationError: Features and splits disagree.
        RunError: The file cannot be written.
    """
    if len(query_features) != len(query) or len(gallery_features) != len(gallery):
        raise EvaluationError(
            f"{len(query_features):,} and {len(gallery_features):,} features do not fit {len(query):,} queries and "
            f"{len(gallery):,} gallery images; extract the features of these very splits"
        )
    queries, images = (np.ascontiguousarray(array, np.float32) for array in (query_features, gallery_features))
    precisions = _average_precisions(queries, images, query, gallery)
    chosen = _choose(precisions, query.identities)
    kinds = [kind for kind, rows in chosen.items() for _ in rows]
    numbers = np.array([row for rows in chosen.values() for row in rows], np.int64)
    rows, scores = _first_places(queries[numbers], images, _left_out(query, gallery, numbers))
    right = (rows != _MISSING) & (gallery.identities[rows] == query.identities[numbers, None])
    names = [["" if row == _MISSING else str(gallery.paths[row].resolve()) for row in places] for places in rows]
    with atomic_write(run.path / RANKINGS) as file:
        np.savez_compressed(
            file,
            average_precisions=precisions,
            kinds=np.array(kinds, np.str_),
            queries=numbers,
            query_paths=np.array([str(query.paths[row].resolve()) for row in numbers], np.str_),
            rows=rows,
            scores=scores,
            right=right,
            gallery_paths=np.array(names, np.str_).reshape(rows.shape),
        )


def read_rankings(folder: Path) -> Rankings | None:
    """Read what `save_rankings` wrote into a run folder; None if there is none.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / RANKINGS
    if not path.exists():
        return None
    try:
        columns = read_arrays(path, ("average_precisions", *_COLUMNS))
        precisions = columns.pop("average_precisions").astype(np.float32)
        _check(columns, len(precisions))
    except Exception as error:  # damaged files raise many kinds
        raise RunError(f"{path} is damaged ({type(error).__name__}: {error}); evaluate the run anew") from error
    return Rankings(precisions, [_rank_list(columns, index, precisions) for index in range(len(columns["kinds"]))])


def _average_precisions(queries: Floats, images: Floats, query: Split, gallery: Split) -> Floats:
    """Average precision (Q,) of every query: the mAP of that query alone; NaN without a valid match."""
    precisions = np.full(len(queries), np.nan, np.float32)
    norms = np.square(images).sum(1)
    size = max(1, _BLOCK_BYTES // (4 * max(1, len(images))))
    possible = np.isin(query.identities, gallery.identities) & (query.identities != JUNK)
    for start in range(0, len(queries), size):
        for row, distances in enumerate(norms - 2 * (queries[start : start + size] @ images.T), start):
            if possible[row]:
                precisions[row] = _average_precision(distances, row, query, gallery)
    return precisions


def _average_precision(distances: Floats, row: int, query: Split, gallery: Split) -> float:
    only = slice(row, row + 1)
    try:
        return evaluate_distances(
            distances[None],
            query_ids=query.identities[only],
            gallery_ids=gallery.identities,
            query_cameras=query.cameras[only],
            gallery_cameras=gallery.cameras,
            ranks=1,
        ).mAP
    except EvaluationError:  # all of its matches are of its own camera
        if not np.isfinite(distances).all():
            raise
        return np.nan


def _choose(precisions: Floats, identities: NDArray[np.int64]) -> dict[Kind, list[int]]:
    """Rows of the best, median and worst queries, no query twice; one of each identity before a second of any."""
    valid = np.flatnonzero(~np.isnan(precisions))
    best = valid[np.argsort(-precisions[valid], kind="stable")]
    middle = best[np.argsort(np.abs(np.arange(len(best)) - (len(best) - 1) / 2), kind="stable")]
    taken: set[int] = set()
    chosen: dict[Kind, list[int]] = {"best": [], "worst": [], "median": []}
    orders: list[tuple[Kind, NDArray[np.int64]]] = [("best", best), ("worst", best[::-1]), ("median", middle)]
    for kind, order in orders:
        share = min(_PER_KIND, -(-len(valid) // 3))
        free = [row for row in order.tolist() if row not in taken]
        chosen[kind] = sorted(_spread(free, identities)[:share], key=order.tolist().index)
        taken.update(chosen[kind])
    return chosen


def _spread(rows: Iterable[int], identities: NDArray[np.int64]) -> list[int]:
    """The rows, the first one of each identity before all others."""
    first: dict[int, int] = {}
    rest = [row for row in rows if first.setdefault(int(identities[row]), row) != row]
    return [*first.values(), *rest]


def _left_out(query: Split, gallery: Split, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(M, G) what takes no part: junk, and images of the query's identity by its own, known camera."""
    cameras, identities = query.cameras[rows, None], query.identities[rows, None]
    same_shot = (cameras != UNKNOWN) & (gallery.cameras == cameras) & (gallery.identities == identities)
    out: NDArray[np.bool_] = same_shot | (gallery.identities == JUNK)
    return out


def _first_places(queries: Floats, images: Floats, out: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Floats]:
    """Gallery rows (M, L) by falling similarity, equal ones by row, and their similarities; L is at most 10."""
    similarity = np.where(out, -np.inf, queries @ images.T)
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :_LENGTH]
    scores = np.take_along_axis(similarity, rows, axis=1)
    empty = np.isneginf(scores)
    return np.where(empty, _MISSING, rows), np.where(empty, 0, scores).astype(np.float32)


def _check(columns: dict[str, NDArray[Any]], queries: int) -> None:
    lists, length = len(columns["kinds"]), columns["rows"].shape[-1]
    for name, (kind, dimensions) in _COLUMNS.items():
        array = columns[name]
        if array.shape != (lists, length)[:dimensions] or array.dtype.kind != kind:
            raise ValueError(f"{name} of shape {array.shape} and type {array.dtype}")
    numbers = columns["queries"]
    if not set(columns["kinds"].tolist()) <= set(get_args(Kind)) or ((numbers < 0) | (numbers >= queries)).any():
        raise ValueError("it refers to what it does not hold")


def _rank_list(columns: dict[str, NDArray[Any]], index: int, precisions: Floats) -> RankList:
    query = int(columns["queries"][index])
    held = columns["rows"][index] != _MISSING
    rows, scores, right, paths = (columns[name][index][held] for name in ("rows", "scores", "right", "gallery_paths"))
    return RankList(
        kind=columns["kinds"][index].item(),
        query=query,
        average_precision=float(precisions[query]),
        path=Path(columns["query_paths"][index].item()),
        rows=rows.tolist(),
        scores=scores.tolist(),
        right=right.tolist(),
        paths=[Path(path) for path in paths.tolist()],
    )
