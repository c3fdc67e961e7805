"""Several runs on one page: final metrics, curves over each other, and the settings in which they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reidkit.errors import RunError
from reidkit.pages import write_page
from reidkit.reporting.epoch_tables import COLUMNS, flatten
from reidkit.reporting.headline import progress
from reidkit.reporting.metric_charts import compared_curves
from reidkit.reporting.run import Epoch, Run, read_run
from reidkit.reporting.wording import duration

__all__ = ["write_comparison"]

_MOST_RUNS = 8
_NONE = "—"
_PER_CENT = ("mAP", "rank1", "rank5", "rank10", "mINP")
"""Metrics in per cent, of which higher is better."""
_HEADINGS = {name: f"{COLUMNS[name][0]}, %" for name in _PER_CENT} | {
    "clusters": "clusters",
    "noise": "noise, % of the images",
    "loss": "loss",
}


class Row(NamedTuple):
    """One row of a table whose columns are runs."""

    name: str
    cells: list[str]
    best: Sequence[int] = ()
    """Columns of the best value, where one is better than others."""


def write_comparison(run_folders: Sequence[Path], path: Path) -> Path:
    """Write one self-contained page that compares two to eight runs.

    Args:
        run_folders: Run folders; the runs may be unfinished and of different modes.
        path: The page; an older one there is replaced in one step.

    Returns:
        The page's path.

    Raises:
        RunError: Too few or too many runs, a folder that is named twice or is no run folder, or a page that cannot be
            written.
    """
    if not 2 <= len(run_folders) <= _MOST_RUNS:
        raise RunError(
            f"{len(run_folders)} runs cannot be compared on one page; name 2 to {_MOST_RUNS} of them, or write several "
            "pages"
        )
    resolved = [folder.resolve() for folder in run_folders]
    twice = next((str(folder) for folder in resolved if resolved.count(folder) > 1), None)
    if twice is not None:
        raise RunError(f"{twice} is named twice; name every run once")
    runs, names = [read_run(folder) for folder in run_folders], _names(resolved)
    content = {
        "title": f"Comparison of {len(runs)} runs",
        "names": names,
        "notes": [f"{name}: {note}" for name, run in zip(names, runs, strict=True) for note in run.notes],
        "metrics": _final_metrics(runs),
        "curves": compared_curves({name: run.epochs for name, run in zip(names, runs, strict=True)}),
        "differences": [
            ("Settings that differ", "settings", _differences([flatten(run.config) for run in runs])),
            ("Environment that differs", "environment", _differences([flatten(run.environment) for run in runs])),
        ],
    }
    write_page(path, "reidkit.reporting", "comparison.html.j2", content)
    return path


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that differ between all runs."""
    longest = max(len(folder.parts) for folder in folders)
    ends = (["/".join(folder.parts[-length:]) for folder in folders] for length in range(1, longest + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def _final_metrics(runs: list[Run]) -> list[Row]:
    """Title and state of each run, and its last value of each metric that any of them has."""
    rows = [Row("run", [run.title for run in runs]), Row("state", [progress(run)[1] for run in runs])]
    for name, heading in _HEADINGS.items():
        _, text, factor = COLUMNS[name]
        values = [_last(run.epochs, name) for run in runs]
        rows += _row(heading, [value and factor * value for value in values], text, best=name in _PER_CENT)
    scores = [[epoch.metrics["mAP"] for epoch in run.epochs if "mAP" in epoch.metrics] for run in runs]
    rows += _row("best mAP, %", [max(of_run, default=None) for of_run in scores], "{:.1f}", best=True)
    times = [[sum(epoch.seconds.values()) for epoch in run.epochs if epoch.seconds] for run in runs]
    return [*rows, Row("time", [duration(sum(of_run)) if of_run else _NONE for of_run in times])]


def _row(heading: str, values: Sequence[float | None], text: str, *, best: bool) -> list[Row]:
    """A row of the values, or none where no run has one."""
    known = [value for value in values if value is not None]
    cells = [_NONE if value is None else text.format(value) for value in values]
    marked = best and len(set(known)) > 1
    columns = [column for column, value in enumerate(values) if marked and value == max(known)]
    return [Row(heading, cells, columns)] if known else []


def _last(epochs: list[Epoch], name: str) -> float | None:
    """The newest value; of clusters and noise, from an epoch that clustered."""
    if name in ("clusters", "noise"):
        epochs = [epoch for epoch in epochs if epoch.kind == "clusters"]
    return next((epoch.metrics[name] for epoch in reversed(epochs) if name in epoch.metrics), None)


def _differences(tables: Sequence[list[tuple[str, str]]]) -> list[Row]:
    """The settings that are not the same in all, in the order of their first occurrence."""
    maps = [dict(table) for table in tables]
    names = dict.fromkeys(name for table in tables for name, _ in table)
    rows = [Row(name, [values.get(name, _NONE) for values in maps]) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]
