"""Tables that commands print."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Column, Table
from rich.text import Text

from reidkit.clustering import ClusteringQuality, EpsSuggestion, size_histogram
from reidkit.datasets import CATALOG, SYNTHETIC, UNKNOWN, DatasetFacts, default_data_root, find_roots
from reidkit.inference import Match, printable
from reidkit.loop import Evaluation

__all__ = [
    "camera_table",
    "catalog_table",
    "matches_table",
    "missing_sets",
    "quality_table",
    "scores_table",
    "sizes_table",
    "split_table",
    "trials_table",
]

_BAR = 30
_SPLITS = ("train", "query", "gallery")


def catalog_table(data_root: Path | None) -> Table:
    """Known data sets, their published counts, and their folders."""
    root = data_root or default_data_root()
    splits = (Column(split, no_wrap=True, justify="right") for split in _SPLITS)
    columns = (Column("name", no_wrap=True), Column("title"), *splits, Column("found at", overflow="fold"))
    table = Table(*columns, title=f"data root {root}", caption="identities / images as published")
    for name, config in SYNTHETIC.items():
        identities = (f"{config.train_identities:,}", f"{config.test_identities:,}", "")
        table.add_row(name, f"generated pedestrians, {config.style}", *identities, "made on first use")
    for entry in CATALOG.values():
        counts = [entry.expected.get(split) for split in _SPLITS]
        published = ("{:,}\n{:,}".format(*each) if each else "" for each in counts)
        places = (f"{place.root}{f' ({place.release})' * bool(place.release)}" for place in find_roots(entry, root))
        table.add_row(entry.name, entry.title, *published, "\n".join(places) or "not found")
    return table


def missing_sets(data_root: Path | None) -> list[str]:
    """A line for every known data set that was not found: how to get it and where to put it."""
    root = data_root or default_data_root()
    missing: dict[str, list[str]] = {}
    for entry in CATALOG.values():
        if not find_roots(entry, root):
            missing.setdefault(f"{entry.access}; put it into {root / entry.folders[0]}", []).append(entry.name)
    return [f"{', '.join(names)}: {access}" for access, names in missing.items()]


def split_table(facts: DatasetFacts) -> Table:
    """Identities, images and cameras of each split, beside the published counts."""
    table = Table("split", "identities", "images", "cameras", "published")
    table.add_column("images of an identity\nleast / median / most", justify="right")
    for split in facts.splits:
        published = "{:,} ids, {:,} images".format(*split.published) if split.published else ""
        spread = "{:,} / {:g} / {:,}".format(*split.images_per_identity) if split.images_per_identity else ""
        counts = (f"{number:,}" for number in (split.identities, split.images, split.cameras))
        table.add_row(split.name, *counts, published, spread)
    return table


def camera_table(facts: DatasetFacts) -> Table:
    """Images of each camera in each split."""
    headings = _right("camera", *(split.name for split in facts.splits))
    table = Table(*headings, title="images of a camera, counted from 0")
    for camera in sorted({camera for split in facts.splits for camera in split.images_per_camera}):
        counts = (f"{split.images_per_camera.get(camera, 0):,}" for split in facts.splits)
        table.add_row("unknown" if camera == UNKNOWN else str(camera), *counts)
    return table


def scores_table(checkpoint: Path, evaluations: Sequence[Evaluation]) -> Table:
    """One row per data set and kind of ranking."""
    columns = {"mAP": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mINP": "mINP"}
    table = Table("data set", *_right(*columns.values()), title=str(checkpoint), caption="per cent")
    for dataset, reranked, scores in evaluations:
        name = f"{dataset}, re-ranked" if reranked else dataset
        table.add_row(name, *(f"{scores[key]:.1f}" for key in columns))
    return table


def quality_table(quality: ClusteringQuality, max_distance: float, title: str) -> Table:
    """The metrics of a clustering; its graph holds the pairs up to `max_distance`."""
    counts = quality.sizes
    table = Table("what", "found", title=title)
    table.add_row("clusters", f"{len(counts.sizes):,}")
    table.add_row("noise", f"{counts.noise:,} of {counts.images:,} images ({counts.noise / counts.images:.1%})")
    if len(counts.sizes):
        table.add_row("images per cluster", f"median {np.median(counts.sizes):g}, largest {counts.sizes.max():,}")
    if quality.silhouette is not None:
        table.add_row(f"silhouette, on pairs up to {max_distance:g}", _number(quality.silhouette))
    if quality.cameras is not None:
        number, entropy = _number(quality.cameras.cameras_per_cluster, 2), _number(quality.cameras.entropy)
        table.add_row("cameras per cluster", f"{number}, entropy {entropy} of 1")
    if quality.agreement is not None:
        images, *scores = quality.agreement
        table.add_row("images of known identity", f"{images:,}")
        for name, score in zip(("ARI", "NMI", "purity", "pairwise precision", "pairwise recall"), scores, strict=True):
            table.add_row(name, _number(score))
    return table


def trials_table(suggestion: EpsSuggestion) -> Table:
    """One row for each eps that was tried."""
    names = ("eps", "clusters", "noise", "largest", "core points", "score")
    caption = "score: mean silhouette over all images, noise counting as 0; the highest is suggested"
    table = Table(*_right(*names), "", caption=caption)
    for trial in suggestion.trials:
        best = trial == suggestion.best
        core = suggestion.core_share(trial.eps)
        counts = (f"{trial.clusters:,}", f"{trial.noise:.1%}", f"{trial.largest:,}", f"{core:.1%}")
        row = (f"{trial.eps:.2f}", *counts, _number(trial.score), "suggested" if best else "")
        table.add_row(*row, style="bold" if best else None)
    return table


def sizes_table(sizes: NDArray[np.int64]) -> Table:
    """How many clusters have how many images."""
    bins = size_histogram(sizes)
    table = Table(*_right("images", "clusters"), "")
    most = max(size.clusters for size in bins)
    for smallest, largest, clusters in bins:
        images = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
        table.add_row(images, f"{clusters:,}", "█" * -(-_BAR * clusters // most))
    return table


def matches_table(queries: Sequence[Path], found: Sequence[Sequence[Match]], root: Path) -> Table:
    """One row per match; a gallery image by its name below the gallery folder."""
    matches = [match for ranked in found for match in ranked]
    calibrated = any(match.probability is not None for match in matches)
    reranked = any(match.distance is not None for match in matches)
    table = Table(Column("query", overflow="fold"), Column("rank", justify="right"), Column("match", overflow="fold"))
    for name in ["cosine", *["probability"] * calibrated, *["distance"] * reranked]:
        table.add_column(name, justify="right", no_wrap=True)
    for query, ranked in zip(queries, found, strict=True):
        for rank, match in enumerate(ranked, start=1):
            values = [f"{match.cosine:.3f}"]
            values += [] if match.probability is None else [f"{match.probability:.1%}"]
            values += [] if match.distance is None else [f"{match.distance:.3f}"]
            first = Text(printable(query.name) if rank == 1 else "")
            second = Text(printable(match.path.relative_to(root)))
            table.add_row(first, str(rank), second, *values, end_section=rank == len(ranked))
    return table


def _right(*headings: str) -> list[Column]:
    return [Column(heading, justify="right") for heading in headings]


def _number(value: float, digits: int = 3) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"
