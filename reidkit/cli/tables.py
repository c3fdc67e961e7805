"""Tables that commands print."""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from reidkit.datasets import CATALOG, SYNTHETIC, ReIDDataset, cache_folder, default_data_root, find_root
from reidkit.loop.device import resolve_precision
from reidkit.loop.run_folder import environment
from reidkit.loop.scoring import Evaluation
from reidkit.processor import cpu_has_bf16

__all__ = ["catalog_table", "environment_table", "scores_table", "split_table"]


def catalog_table(data_root: Path | None) -> Table:
    """Known data sets and where they were found."""
    root = data_root or default_data_root()
    table = Table("name", "title", "found at", title=f"data root {root}")
    for name, config in SYNTHETIC.items():
        table.add_row(name, f"{config.train_identities} generated pedestrians, {config.style}", "made on first use")
    for entry in CATALOG.values():
        found = find_root(entry, root)
        table.add_row(entry.name, entry.title, str(found) if found else "not found")
    table.add_row("(a path)", "a folder in Market-1501 layout, plain images, a CSV or Parquet table", "by its path")
    return table


def split_table(dataset: ReIDDataset) -> Table:
    """Identities, images and cameras of each split, beside the published counts."""
    table = Table("split", "identities", "images", "cameras", "images/identity", "published")
    expected = CATALOG[dataset.name].expected if dataset.name in CATALOG else {}
    for name, split in (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery)):
        published = "{:,} ids, {:,} images".format(*expected[name]) if name in expected else ""
        per_identity = f"{len(split) / max(1, split.identity_count):.1f}"
        counts = (f"{number:,}" for number in (split.identity_count, len(split), split.camera_count))
        table.add_row(name, *counts, per_identity, published)
    return table


def environment_table() -> Table:
    """Versions, hardware and what they make possible."""
    facts = environment()
    table = Table("what", "found")
    for name in ("reidkit", "python", "platform", "processor", "threads"):
        table.add_row(name, str(facts[name]))
    table.add_row("CUDA devices", ", ".join(facts["cuda"]) or "none; training runs on the CPU")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    table.add_row("precision by default", resolve_precision(kind, "auto"))
    table.add_row("bf16 in hardware (CPU)", "yes" if cpu_has_bf16() else "no")
    faiss = importlib.util.find_spec("faiss") is not None
    table.add_row("faiss", "installed" if faiss else "not installed; torch searches neighbours, with the same result")
    for package, version in facts["packages"].items():
        table.add_row(package, version)
    root, cache = default_data_root(), cache_folder()
    table.add_row("data root", f"{root} ({'exists' if root.is_dir() else 'does not exist'})")
    table.add_row("cache", str(cache))
    nearest = next(folder for folder in [cache, *cache.parents] if folder.exists())
    table.add_row("free on the cache's disk", f"{shutil.disk_usage(nearest).free / 2**30:.1f} GiB")
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
