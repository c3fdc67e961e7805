"""Tables that commands print."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from reidkit.datasets import CATALOG, SYNTHETIC, UNKNOWN, DatasetFacts, default_data_root, find_roots
from reidkit.loop import Evaluation

__all__ = ["camera_table", "catalog_table", "missing_sets", "scores_table", "split_table"]


_SPLITS = ("train", "query", "gallery")


def catalog_table(data_root: Path | None) -> Table:
    """Known data sets, their published counts, and their folders."""
    root = data_root or default_data_root()
    table = Table(title=f"data root {root}", caption="identities / images as published")
    table.add_column("name", no_wrap=True)
    table.add_column("title")
    for split in _SPLITS:
        table.add_column(split, no_wrap=True, justify="right")
    table.add_column("found at", overflow="fold")
    for name, config in SYNTHETIC.items():
        title = f"generated pedestrians, {config.style}"
        table.add_row(
            name, title, f"{config.train_identities:,}", f"{config.test_identities:,}", "", "made on first use"
        )
    for entry in CATALOG.values():
        published = (
            "{:,}\n{:,}".format(*entry.expected[split]) if split in entry.expected else "" for split in _SPLITS
        )
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
    table = Table(title="images of a camera, counted from 0")
    for heading in ("camera", *(split.name for split in facts.splits)):
        table.add_column(heading, justify="right")
    for camera in sorted({camera for split in facts.splits for camera in split.images_per_camera}):
        counts = (f"{split.images_per_camera.get(camera, 0):,}" for split in facts.splits)
        table.add_row("unknown" if camera == UNKNOWN else str(camera), *counts)
    return table


def scores_table(checkpoint: Path, evaluations: Sequence[Evaluation]) -> Table:
    """One row per data set and kind of ranking."""
    table = Table("data set", title=str(checkpoint), caption="per cent")
    columns = {"mAP": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mINP": "mINP"}
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for dataset, reranked, scores in evaluations:
        name = f"{dataset}, re-ranked" if reranked else dataset
        table.add_row(name, *(f"{scores[key]:.1f}" for key in columns))
    return table
