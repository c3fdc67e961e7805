"""Record of one epoch: a line of metrics.jsonl, and what checkpoints keep of the epochs before."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

__all__ = ["EpochRecord", "Scores"]

Scores = dict[str, float]
"""`mAP`, `rank1`, `rank5`, `rank10`, `mINP` in per cent; empty where nothing was evaluated."""

_SCORES = ("mAP", "rank1", "rank5", "rank10", "mINP")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """Labels, losses, scores and times of one epoch; those of epoch 0 are from before training."""

    epoch: int
    labels: str | None = None
    """`clusters`, `instances` (every image a class by itself) or `identities`; None in epoch 0."""
    clusters: int | None = None
    """Number of classes."""
    noise: float | None = None
    """Share of the images without a class, in [0, 1]."""
    learning_rate: float | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the clustering, from `clustering_record`."""
    loss: float | None = None
    """Mean over the steps taken."""
    skipped: int | None = None
    """Steps left out because their loss or gradient was not finite."""
    images: int | None = None
    """Images trained on."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further metrics of the stage, such as signs of collapse in pre-training."""
    scores: Scores = field(default_factory=dict)
    """Scores on the target."""
    others: Mapping[str, Scores] = field(default_factory=dict)
    """Scores on other data sets by name, at the end of a stage of UDA."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time by step: extract, label, train, evaluate."""

    def as_line(self) -> dict[str, Any]:
        """The record as plain values by name; what is unknown is left out, metrics and scores are not nested."""
        line: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if name in ("metrics", "scores"):
                line |= value
            elif name == "seconds" or (value is not None and value != {}):
                line[name] = dict(value) if isinstance(value, Mapping) else value
        return line

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self:
        """The record that `as_line` was called on.

        Raises:
            KeyError: The line names no epoch.
        """
        known = {each.name for each in fields(cls)} - {"metrics", "scores"}
        rest = {name: value for name, value in line.items() if name not in known}
        return cls(
            **{"epoch": line["epoch"]} | {name: line[name] for name in known if name in line},
            scores={name: rest.pop(name) for name in _SCORES if name in rest},
            metrics=rest,
        )

    def numbers(self) -> dict[str, float]:
        """Every number but the epoch, nested names joined by a slash, as loggers and TensorBoard show them."""
        return dict(_numbers({name: value for name, value in self.as_line().items() if name != "epoch"}))


def _numbers(table: Mapping[str, Any], prefix: str = "") -> "list[tuple[str, float]]":
    found: list[tuple[str, float]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found
