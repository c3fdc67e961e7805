"""Progress of the loop: the command line shows it, a library caller may ignore it."""

from reidkit.runs import EpochRecord

__all__ = ["SILENT", "Progress"]


class Progress:
    """Called at every step, stage and epoch. This base class is silent."""

    def begin(self, stage: str, total: int, unit: str = "images") -> None:
        """A stage of `total` units starts: `extract`, `cluster`, `train`, `evaluate`, `read images`, ..."""

    def advance(self, done: int, total: int | None = None, **metrics: float) -> None:
        """`done` units of the stage are finished, of `total` if that is news; metrics such as the running loss."""

    def start_run(self, first_epoch: int, epochs: int) -> None:
        """Epochs first_epoch..epochs are about to run."""

    def end_epoch(self, record: EpochRecord) -> None:
        """An epoch is finished; the record is its line in metrics.jsonl."""


SILENT = Progress()
"""Shows nothing."""
