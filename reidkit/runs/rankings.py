"""Rank lists of an evaluation: the average precision of each query, and the first places of some of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import JUNK, UNKNOWN, Split
from reidkit.errors import RunError
from reidkit.runs.run_folder import RunFolder
from reidkit.storage import atomic_write, read_arrays

__all__ = ["RANKINGS", "RankList", "Rankings", "read_rankings", "save_rankings"]

RANKINGS = "rankings.npz"
"""Name in a run folder of the rank lists of its last evaluation."""

Kind = Literal["best", "median", "worst"]
Floats = NDArray[np.float32]

_PER_KIND = 12
_LENGTH = 10
_MISSING = -1  # gallery row of a place that a short gallery leaves empty
_ARRAYS = ("average_precisions", "kinds", "queries", "query_paths", "rows", "scores", "right", "gallery_paths")


class RankList(NamedTuple):
    """First places of one query, without the images that the protocol leaves out."""

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
    """Contents of rankings.npz."""

    average_precisions: Floats
    """(Q,) in [0, 1]; NaN for queries without a valid match."""
    lists: list[RankList]
    """At most 12 of each kind: the best, the median and the worst queries, of as many identities as there are."""


def save_rankings(
    run: RunFolder,
    average_precisions: NDArray[np.floating[Any]],
    query_features: NDArray[np.floating[Any]],
    gallery_features: NDArray[np.floating[Any]],
    query: Split,
    gallery: Split,
) -> None:
    """Write rankings.npz: the average precision of each query, and first places of some.

    The file names at most 36 queries with 10 gallery images each, for any Q and G.

    Args:
        run: Where it is written; an older file is replaced.
        average_precisions: (Q,) in [0, 1], from `evaluate_ranking`; NaN without a valid match.
        query_features: (Q, D), L2-normalised.
        gallery_features: (G, D), L2-normalised.
        query: The queries.
        gallery: The gallery.

    Raises:
        RunError: The file cannot be written.
    """
    queries, images = (np.ascontiguousarray(array, np.float32) for array in (query_features, gallery_features))
    precisions = average_precisions.astype(np.float32)
    chosen = _choose(precisions, query.identities)

    # First places of the best, the worst and the median queries
    kinds = [kind for kind, rows in chosen.items() for _ in rows]
    numbers = np.array([row for rows in chosen.values() for row in rows], np.int64)
    rows, scores = _first_places(queries[numbers], images, _left_out(query, gallery, numbers))
    right = (rows != _MISSING) & (gallery.identities[rows] == query.identities[numbers, None])

    # Images by their paths
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
        arrays = read_arrays(path, _ARRAYS)
        return Rankings(arrays["average_precisions"], [_rank_list(arrays, row) for row in range(len(arrays["kinds"]))])
    except Exception as error:  # damaged files raise many kinds
        raise RunError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it: the report does without"
        ) from error


def _choose(precisions: Floats, identities: NDArray[np.int64]) -> dict[Kind, list[int]]:
    """Choose the best, worst and median queries, none twice; one of each identity before a second of any."""
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
    """Put the first row of each identity before all others."""
    first: dict[int, int] = {}
    rest = [row for row in rows if first.setdefault(int(identities[row]), row) != row]
    return [*first.values(), *rest]


def _left_out(query: Split, gallery: Split, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Images (M, G) that the protocol leaves out: junk, and the query's identity by the query's own, known camera."""
    cameras, identities = query.cameras[rows, None], query.identities[rows, None]
    same_shot = (cameras != UNKNOWN) & (gallery.cameras == cameras) & (gallery.identities == identities)
    out: NDArray[np.bool_] = same_shot | (gallery.identities == JUNK)
    return out


def _first_places(queries: Floats, images: Floats, out: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Floats]:
    """Gallery rows (M, L) by falling similarity, ties by row, and their similarities; L is at most 10."""
    similarity = np.where(out, -np.inf, queries @ images.T)
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :_LENGTH]
    scores = np.take_along_axis(similarity, rows, axis=1)
    empty = np.isneginf(scores)
    return np.where(empty, _MISSING, rows), np.where(empty, 0, scores).astype(np.float32)


def _rank_list(arrays: dict[str, NDArray[Any]], index: int) -> RankList:
    kind, query = arrays["kinds"][index].item(), int(arrays["queries"][index])
    if kind not in get_args(Kind):
        raise ValueError(f"a rank list is one of {get_args(Kind)}, not {kind!r}")
    held = arrays["rows"][index] != _MISSING
    rows, scores, right, paths = (arrays[name][index][held] for name in ("rows", "scores", "right", "gallery_paths"))
    return RankList(
        kind=kind,
        query=query,
        average_precision=float(arrays["average_precisions"][query]),
        path=Path(arrays["query_paths"][index].item()),
        rows=rows.tolist(),
        scores=scores.astype(np.float64).tolist(),
        right=right.tolist(),
        paths=[Path(path) for path in paths.tolist()],
    )
