"""The report: one self-contained HTML file about a run."""

from pathlib import Path
from typing import Any

import numpy as np

from reidkit.errors import RunError
from reidkit.pages import Album, write_page
from reidkit.reporting.attention import make_attention_maps
from reidkit.reporting.cameras import camera_confusion
from reidkit.reporting.cluster_gallery import make_groups, make_largest, make_noise
from reidkit.reporting.epoch_tables import epoch_table, sections
from reidkit.reporting.feature_map import make_feature_map
from reidkit.reporting.headline import headline, progress
from reidkit.reporting.metric_charts import curves, shaded, size_histogram, unrecorded
from reidkit.reporting.run import Clustering, Run, TrainingFeatures, read_run, read_training_features
from reidkit.reporting.wording import count

__all__ = ["write_report"]

_QUERIES = {"best": "The best queries", "median": "The median queries", "worst": "The worst queries"}


def write_report(run_folder: Path, path: Path | None = None) -> Path:
    """Write one self-contained page about a run and its result.

    It shows the headline, curves, the clusters of the last epoch that trained on clusters (in pictures where
    the images are still there): the largest, tightest, loosest, the most mixed in cameras, suspected merges and splits;
    the noise, a map of the features, the cameras that meet in clusters, rank lists of queries, attention maps, every
    epoch, all settings and the environment. The run may be unfinished; what is missing, damaged or cannot be known is
    said on the page. All images are inside it, nothing is fetched, every name is escaped, and its one script only shows
    the map's images under the pointer.

    Args:
        run_folder: The folder that a training command printed as its run folder.
        path: The page; None is report.html in the run folder. An older page there is replaced in one step.

    Returns:
        The page's path.

    Raises:
        RunError: The folder is no run folder, or the page cannot be written.
    """
    run = read_run(run_folder)
    path = path or run_folder / "report.html"
    write_page(path, "reidkit.reporting", "report.html.j2", _content(run))
    return path


def _content(run: Run) -> dict[str, Any]:
    """Content of the template, by its names there."""
    finished, state = progress(run)
    headings, rows = epoch_table(run.epochs)
    skipped = int(sum(epoch.metrics.get("skipped", 0) for epoch in run.epochs))
    left_out = f"{count(skipped, 'training step')} left out because the loss was not finite."
    clustering, album = run.clustering, Album()
    training = read_training_features(run.folder, clustering) if clustering else "There are no clusters yet."
    return {
        "title": run.title,
        "folder": run.folder.resolve().name,
        "finished": finished,
        "state": state,
        "recipe_name": run.setting("recipe", "name", str),
        "recipe_purpose": run.setting("recipe", "description", str),
        "notes": [*run.notes, left_out] if skipped else run.notes,
        "cards": headline(run),
        "curves": curves(run.epochs),
        "unrecorded": unrecorded(run.epochs),
        "evaluated": any("mAP" in epoch.metrics for epoch in run.epochs),
        "shaded": bool(shaded(run.epochs)),
        **_clusters(clustering, training, album),
        "lists": _rank_lists(run.folder, album),
        "attention": make_attention_maps(run.folder, clustering.paths if clustering else [], album),
        "absent": album.absent,
        "headings": headings,
        "rows": rows,
        "settings": sections(run.config, "run"),
        "environment": sections(run.environment, "system"),
    }


def _clusters(clustering: Clustering | None, training: TrainingFeatures | str, album: Album) -> dict[str, Any]:
    """Content of the sections about clusters."""
    names = ("clustering", "histogram", "noise", "identified", "feature_map")
    shown: dict[str, Any] = dict.fromkeys(names) | {"groups": []}
    if clustering is None:
        why = "There are no clusters yet, so nothing to show."
        return shown | {"no_map": why, "cameras": why}
    sizes = clustering.clusters[1]
    shown |= {"clustering": _describe(clustering), "histogram": size_histogram(sizes) if len(sizes) else None}
    noise, groups = make_noise(clustering, album), [make_largest(clustering, album)]
    if isinstance(training, TrainingFeatures):
        groups += make_groups(clustering, training, album)
    if not album.empty:
        shown |= {"noise": noise, "groups": [group for group in groups if group.tiles]}
    if not isinstance(training, TrainingFeatures):
        return shown | {"no_map": training, "cameras": f"{training} Cameras are stored with the features."}
    return shown | {
        "identified": bool((training.identities >= 0).any()),
        "feature_map": make_feature_map(clustering, training),
        "no_map": "Fewer than three images are no map.",
        "cameras": camera_confusion(clustering.labels, training.cameras),
    }


def _rank_lists(folder: Path, album: Album) -> dict[str, Any] | str:
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
    groups: dict[str, list[Any]] = {name: [] for name in _QUERIES.values()}
    for entry in stored.lists:
        groups[_QUERIES[entry.kind]].append((entry, album.add(entry.path), album.add_all(entry.paths)))
    return {"summary": summary, "groups": [(name, lists) for name, lists in groups.items() if lists]}


def _describe(clustering: Clustering) -> str:
    labels, sizes = clustering.clusters
    images = count(len(clustering.labels), "image")
    if not len(labels):
        return f"Epoch {clustering.epoch}: all {images} were noise."
    spread = f"of {sizes.min():,} to {sizes.max():,} images (median {np.median(sizes):g})"
    return (
        f"Epoch {clustering.epoch}: {images} fell into {count(len(labels), 'cluster')} {spread}; "
        f"{clustering.noise:,} were noise."
    )
