"""The page's tables: one row per epoch, all settings, the environment."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reidkit.reporting.figures import stages
from reidkit.reporting.run import Epoch

__all__ = ["EpochTable", "Row", "Section", "epoch_table", "flatten", "sections"]

_COLUMNS = {
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


class Row(NamedTuple):
    """One epoch of the table."""

    cells: list[str]
    best: bool
    """The epoch with the best mAP."""


class EpochTable(NamedTuple):
    """Every epoch's figures."""

    headings: list[str]
    rows: list[Row]


class Section(NamedTuple):
    """Settings that belong together."""

    name: str
    settings: list[tuple[str, str]]


def epoch_table(epochs: Sequence[Epoch]) -> EpochTable:
    """All figures of all epochs; columns that no epoch fills are left out."""
    names = [name for name in _COLUMNS if any(name in epoch.figures for epoch in epochs)]
    timed = stages(epochs)
    headings = ["epoch", "labels", *(_COLUMNS[name][0] for name in names), *(f"{name} s" for name in timed)]
    scores = [epoch.figures["mAP"] for epoch in epochs if "mAP" in epoch.figures]
    rows = [
        Row(
            [
                str(epoch.number),
                epoch.kind,
                *(_cell(epoch.figures, name, *_COLUMNS[name][1:]) for name in names),
                *(_cell(epoch.seconds, name, "{:,.1f}", 1) for name in timed),
            ],
            best=bool(scores) and epoch.figures.get("mAP") == max(scores),
        )
        for epoch in epochs
    ]
    return EpochTable(headings, rows)


def sections(table: Mapping[str, Any], rest: str) -> list[Section]:
    """A nested table as flat sections, those of plain values first under the name `rest`."""
    plain = [(name, _text(value)) for name, value in table.items() if not isinstance(value, dict)]
    nested = [Section(name, flatten(value)) for name, value in table.items() if isinstance(value, dict)]
    return [*([Section(rest, plain)] if plain else []), *(section for section in nested if section.settings)]


def flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested table as names, joined by dots, and values as text."""
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        found += flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", _text(value))]
    return found


def _cell(figures: Mapping[str, float], name: str, text: str, factor: int) -> str:
    return text.format(factor * figures[name]) if name in figures else ""


def _text(value: object) -> str:
    """A setting as TOML would have it, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return str(value) if value != "" else "none"
