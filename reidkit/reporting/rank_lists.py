"""Rank lists of single queries in pictures, right and wrong matches marked."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from reidkit.errors import RunError
from reidkit.pages import Album, Thumbnail

__all__ = ["Match", "QueryList", "RankSection", "make_rank_lists"]

_NAMES = {"best": "The best queries", "median": "The median queries", "worst": "The worst queries"}


class Match(NamedTuple):
    """One place of a list."""

    picture: Thumbnail
    right: bool
    score: float
    """Cosine similarity to the query."""


class QueryList(NamedTuple):
    """One query and its matches."""

    query: Thumbnail
    precision: float
    """Average precision in per cent."""
    matches: list[Match]


class RankSection(NamedTuple):
    """Rank lists by kind of query."""

    summary: str
    groups: list[tuple[str, list[QueryList]]]


def make_rank_lists(folder: Path, album: Album) -> RankSection | str:
    """Show the rank lists that a run stored; return in words why there are none."""
    from reidkit.runs import RANKINGS, read_rankings  # loads torch

    try:
        stored = read_rankings(folder)
    except RunError as error:
        return f"{RANKINGS} cannot be shown: {error}."
    if stored is None:
        return (
            f"{RANKINGS} is missing: it is written by an evaluation, which needs labelled query and gallery images. "
            "Without them, what is found rightly and what wrongly cannot be known."
        )
    valid = stored.average_precisions[~np.isnan(stored.average_precisions)]
    if not len(valid):
        return "No query has a valid match in the gallery, so no list can be judged."
    summary = (
        f"{len(valid):,} of {len(stored.average_precisions):,} queries have a match in the gallery; average precision: "
        f"mean {100 * valid.mean():.1f} %, median {100 * np.median(valid):.1f} %, "
        f"{(valid > 0.9999).mean():.0%} of them perfect."
    )
    groups = []
    for kind, name in _NAMES.items():
        lists = []
        for entry in stored.lists:
            found = zip(entry.paths, entry.right, entry.scores, strict=True)
            if entry.kind == kind:
                matches = [Match(album.add(path), right, score) for path, right, score in found]
                lists.append(QueryList(album.add(entry.path), 100 * entry.average_precision, matches))
        groups += [(name, lists)] if lists else []
    return RankSection(summary, groups)
