"""Rank lists of single queries in pictures, right and wrong matches marked."""

from pathlib import Path
from typing import Any

import numpy as np

from reidkit.errors import RunError
from reidkit.pages import Album

__all__ = ["make_rank_lists"]

_NAMES = {"best": "The best queries", "median": "The median queries", "worst": "The worst queries"}


def make_rank_lists(folder: Path, album: Album) -> dict[str, Any] | str:
    """Show the rank lists that a run stored; return in words why there are none.

    Returns:
        A `summary` of all queries, and `groups`: for each kind its name and lists, a list being a `RankList` of the run
        with the thumbnails of its query and its matches.
    """
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

    # Summary of all queries
    valid = stored.average_precisions[~np.isnan(stored.average_precisions)]
    if not len(valid):
        return "No query has a valid match in the gallery, so no list can be judged."
    summary = (
        f"{len(valid):,} of {len(stored.average_precisions):,} queries have a match in the gallery; average precision: "
        f"mean {100 * valid.mean():.1f} %, median {100 * np.median(valid):.1f} %, "
        f"{(valid > 0.9999).mean():.0%} of them perfect."
    )

    # Lists by kind of query
    groups: dict[str, list[Any]] = {name: [] for name in _NAMES.values()}
    for entry in stored.lists:
        groups[_NAMES[entry.kind]].append((entry, album.add(entry.path), album.add_all(entry.paths)))
    return {"summary": summary, "groups": [(name, lists) for name, lists in groups.items() if lists]}
