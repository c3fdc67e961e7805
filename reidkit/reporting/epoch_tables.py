"""Tables of the page: one row per epoch, all settings, the environment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reidkit.reporting.metric_charts import stages
from reidkit.reporting.run import Epoch

__all__ = ["COLUMNS", "epoch_table", "flatten", "sections"]

COLUMNS = {
    "mAP": ("mAP", "{:.1f}", 1),
    "rank1": ("Rank-1", "{:.1f}", 1),
    "rank5": ("Rank-5", "{:.1f}", 1),
    "rank10": ("Rank-10", "{:.1f}", 1),
    "mINP": ("mINP", "{:.1f}", 1),
    "clusters": ("clusters", "{:,.0f}", 1),
    "noise": ("noise %", "{:.1f}", 100),
    "loss": ("loss", "{:.3f}", 1),
    "learning_rate": ("learning rate", "{:.2e}", 1),
    "images": ("images", "{:,.0f}", 1),
    "skipped": ("skipped", "{:,.0f}", 1),
}
"""Name in metrics.jsonl -> heading, format and factor."""


def epoch_table(epochs: Sequence[Epoch]) -> tuple[list[str], list[tuple[list[str], bool]]]:
    """All metrics of all epochs; columns that no epoch fills are left out.

    Returns:
        Headings; and for each epoch its cells, and whether it has the best mAP.
    """
    names = [name for name in COLUMNS if any(name in epoch.metrics for epoch in epochs)]
    timed = stages(epochs)
    headings = ["epoch", "labels", *(COLUMNS[name][0] for name in names), *(f"{name} s" for name in timed)]
    best = max((epoch.metrics["mAP"] for epoch in epochs if "mAP" in epoch.metrics), default=math.nan)
    rows = []
    for epoch in epochs:
        cells = [_cell(epoch.metrics, name, *COLUMNS[name][1:]) for name in names]
        times = [_cell(epoch.seconds, name, "{:,.1f}", 1) for name in timed]
        rows.append(([str(epoch.number), epoch.kind, *cells, *times], epoch.metrics.get("mAP") == best))
    return headings, rows


def sections(table: Mapping[str, Any], rest: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """A nested table as flat sections, those of plain values first under the name `rest`."""
    plain = (rest, flatten({name: value for name, value in table.items() if not isinstance(value, dict)}))
    nested = [(name, flatten(value)) for name, value in table.items() if isinstance(value, dict)]
    return [(name, settings) for name, settings in (plain, *nested) if settings]


def flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested table as names, joined by dots, and values as text."""
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        found += flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", _text(value))]
    return found


def _cell(metrics: Mapping[str, float], name: str, text: str, factor: int) -> str:
    return text.format(factor * metrics[name]) if name in metrics else ""


def _text(value: object) -> str:
    """A setting as in TOML, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return str(value) if value != "" else "none"
