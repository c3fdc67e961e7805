"""Output of the commands: live bars in a terminal, plain lines elsewhere, a closing table."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

from reidkit.loop import Progress
from reidkit.runs import EpochRecord
from reidkit.storage import unwritable

__all__ = ["Display", "log_to", "show_table"]

logger = logging.getLogger("reidkit")

_REFRESH_SECONDS = 0.1


class Display(Progress):
    """Shows a run; a context manager, so that the terminal is always left in order.

    Args:
        quiet: Show warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._bars = Bars(
            TextColumn("{task.description:>14}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._handler = _ConsoleHandler(self._console, logging.WARNING if quiet else logging.INFO)
        self._task: TaskID | None = None
        self._stage_started = self._run_started = self._shown = time.monotonic()
        self._unit = "images"
        self._epochs = self._first_epoch = 0

    def __enter__(self) -> "Display":
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        # What Fabric announces (the precision, say) stands in the configuration.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        logger.removeHandler(self._handler)

    def say(self, text: str) -> None:
        """A line for the person and for the log."""
        logger.info(text)

    def begin(self, stage: str, total: int, unit: str = "images") -> None:
        """Replace the bar by one of the new stage."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(stage, total=total, metrics="")
        self._stage_started, self._unit = time.monotonic(), unit

    def advance(self, done: int, total: int | None = None, **metrics: float) -> None:
        """Move the bar; at most ten times a second."""
        now = time.monotonic()
        if self._task is None or (now - self._shown < _REFRESH_SECONDS and done):
            return
        self._shown = now
        images = metrics.pop("images", done if self._unit == "images" else 0)
        rate = images / max(now - self._stage_started, 1e-9)
        shown = [f"{rate:,.0f} images/s"] * bool(images) + [f"{name} {value:.3f}" for name, value in metrics.items()]
        self._bars.update(self._task, completed=done, total=total, metrics="  ".join(shown))

    def start_run(self, first_epoch: int, epochs: int) -> None:
        """Remember where the run starts, for the time left."""
        self._first_epoch, self._epochs, self._run_started = first_epoch, epochs, time.monotonic()
        if first_epoch > epochs:
            self.say(f"the run is finished: all {epochs} epochs are done; a larger --epochs lengthens it")
        elif first_epoch:
            self.say(f"resuming at epoch {first_epoch} of {epochs}")

    def end_epoch(self, record: EpochRecord) -> None:
        """One line per epoch."""
        done = record.epoch - self._first_epoch + 1
        left = (time.monotonic() - self._run_started) / done * (self._epochs - record.epoch)
        parts = [f"epoch {record.epoch:>{len(str(self._epochs))}}/{self._epochs}"]
        if record.epoch == 0:
            parts.append("before training")
        else:
            parts.append(f"{record.labels} {record.clusters:,}  noise {record.noise:.1%}  loss {record.loss:.3f}")
            parts.append(f"{(record.images or 0) / max(record.seconds['train'], 1e-3):,.0f} images/s")
        if record.scores:
            parts.append(f"mAP {record.scores['mAP']:.1f}  Rank-1 {record.scores['rank1']:.1f}")
        if left:
            parts.append(f"left {_clock(left)}")
        self.say("  ".join(parts))

    def close_run(self, history: list[EpochRecord], folder: Path, report: Path | None, seconds: float) -> None:
        """The closing table; the report is None if it could not be written."""
        if self._quiet:
            return
        self._bars.stop()
        self._console.print(_closing_table(history))
        self._console.print(f"time {_clock(seconds)}   run folder {folder}{f'   report {report}' if report else ''}")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append everything that is said to a file.

    Raises:
        RunError: The file cannot be opened.
    """
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """Loses lines on a full disk in silence: what matters more is about to fail, and says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's own name)
        """Called where a line could not be written."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _ConsoleHandler(logging.Handler):
    """Prints log records above the bars."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; warnings in yellow."""
        warning = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if warning else record.getMessage()
        with suppress(OSError):  # a closed terminal or a full disk of its output ends no run of days
            self._console.print(text, style="yellow" if warning else None, markup=False)


def _closing_table(history: list[EpochRecord]) -> Table:
    evaluated = [record for record in history if record.scores]
    adapted = [record for record in history if record.others]
    # Without query and gallery no epoch is evaluated
    rows = {"before training": evaluated[0]} if evaluated else {}
    rows |= {"before adaptation": adapted[0]} if len(adapted) > 1 else {}
    rows |= {"best": max(evaluated, key=lambda record: record.scores["mAP"])} if evaluated else {}
    rows["last"] = (evaluated or history)[-1]
    # Of 80 columns at most
    table = Table(Column(overflow="fold"), title="result", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("epoch", "mAP", "Rank-1", "Rank-5", "Rank-10", "clusters", "noise"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, record in rows.items():
        labels = (f"{record.clusters:,}", f"{record.noise:.1%}") if record.labels == "clusters" else ("", "")
        table.add_row(name, str(record.epoch), *_score_cells(record.scores), *labels)
    for record in adapted[:1] + adapted[1:][-1:]:
        for dataset, scores in record.others.items():
            table.add_row(f"source {dataset}", str(record.epoch), *_score_cells(scores), "", "")
    return table


def _score_cells(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores[key]:.1f}" if key in scores else "" for key in ("mAP", "rank1", "rank5", "rank10")]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def show_table(table: Any) -> None:
    """Print a rich table to standard output."""
    Console(highlight=False).print(table)
