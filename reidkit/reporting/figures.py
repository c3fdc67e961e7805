"""Which charts the page shows, from the epochs and the clusters of a run."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reidkit.reporting.charts import Bar, Series, bar_chart, line_chart
from reidkit.reporting.run import Epoch
from reidkit.reporting.wording import count, duration

__all__ = ["Figure", "curves", "size_histogram", "stages"]

_STAGES = ("extract", "cluster", "train", "evaluate")
_MOST_BINS = 24


class Figure(NamedTuple):
    """A chart with its caption."""

    title: str
    keys: list[str]
    """Names of the colours, in the order of the style sheet's classes; none where the title says it all."""
    drawing: Markup | None
    """An `svg` element, or None where nothing was recorded."""


def curves(epochs: Sequence[Epoch]) -> list[Figure]:
    """Accuracy, loss, clusters, noise, learning rate and time over the epochs.

    Clusters and noise leave out the epochs in which every image was a class of its own; all curves shade them.
    """
    return [
        _curve("Accuracy on the target, %", epochs, {"mAP": "mAP", "rank1": "Rank-1"}, text="{:.1f} %"),
        _curve("Loss", epochs, {"loss": "loss"}),
        _curve("Clusters", epochs, {"clusters": "clusters"}, text="{:,.0f}", clustered=True),
        _curve("Noise, % of the images", epochs, {"noise": "noise"}, text="{:.1f} %", scale=100, clustered=True),
        _curve("Learning rate", epochs, {"learning_rate": "learning rate"}, text="{:.3g}"),
        _times(epochs),
    ]


def size_histogram(sizes: NDArray[np.int64]) -> Figure:
    """How many clusters (C,) have how many images.

    Equally wide bins; where a few clusters are far larger than the others, the last bin holds all from there on.
    """
    smallest, largest = int(sizes.min()), int(sizes.max())
    usual = int(np.quantile(sizes, 0.97, method="lower"))
    limit = largest if largest <= 1.5 * usual else usual
    width = math.ceil((limit - smallest + 1) / _MOST_BINS)
    starts = list(range(smallest, limit + 1, width))
    end = starts[-1] + width - 1
    numbers, _ = np.histogram(sizes, bins=[*starts, end + 1, max(largest, end) + 2])
    labels = [str(start) for start in starts] + [f">{end}"]
    ranges = [str(start) if width == 1 else f"{start} to {start + width - 1}" for start in starts] + [f"over {end}"]
    bars = [
        Bar(label, [number], [f"{count(number, 'cluster')} of {images} images"])
        for label, number, images in zip(labels, numbers.tolist(), ranges, strict=True)
    ]
    title = "Clusters by size"
    foot = "images in the cluster" if width == 1 else f"images in the cluster, {width} sizes to a bar"
    drawing = bar_chart(bars if numbers[-1] else bars[:-1], label=title, foot=foot)
    return Figure(title, [], drawing)


def stages(epochs: Sequence[Epoch]) -> list[str]:
    """The timed stages that occur, in the order of an epoch; unknown ones last."""
    occurring = dict.fromkeys(name for epoch in epochs for name in epoch.seconds)
    return [*(name for name in _STAGES if name in occurring), *(name for name in occurring if name not in _STAGES)]


def _curve(
    title: str,
    epochs: Sequence[Epoch],
    names: dict[str, str],
    *,
    text: str = "{:,.4g}",
    scale: float = 1.0,
    clustered: bool = False,
) -> Figure:
    """One line for each figure in `names`, called by its value; None instead of a drawing where none was recorded."""
    lines = [Series(caption, _points(epochs, name, scale, clustered), text) for name, caption in names.items()]
    lines = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    if not lines:
        return Figure(title, [], None)
    drawing = line_chart(
        lines,
        label=f"{title}, over the epochs",
        span=(epochs[0].number, epochs[-1].number),
        shaded=[epoch.number for epoch in epochs if epoch.kind == "instances"],
    )
    return Figure(title, [line.name for line in lines] if len(names) > 1 else [], drawing)


def _points(epochs: Sequence[Epoch], name: str, scale: float, clustered: bool) -> list[tuple[float, float]]:
    """Values by epoch; NaN, which interrupts the line, in epochs without clusters if `clustered` asks for them."""
    return [
        (epoch.number, math.nan if clustered and epoch.kind != "clusters" else scale * epoch.figures[name])
        for epoch in epochs
        if name in epoch.figures
    ]


def _times(epochs: Sequence[Epoch]) -> Figure:
    names = stages(epochs)
    if not names:
        return Figure("Time", [], None)
    longest = max(sum(epoch.seconds.values()) for epoch in epochs)
    unit, size = ("s", 1) if longest < 600 else ("min", 60) if longest < 36_000 else ("h", 3600)
    bars = []
    for epoch in epochs:
        seconds = [epoch.seconds.get(name, 0.0) for name in names]
        tips = [f"epoch {epoch.number}: {name} {duration(time)}" for name, time in zip(names, seconds, strict=True)]
        bars.append(Bar(str(epoch.number), [time / size for time in seconds], tips))
    title = f"Time by stage, {unit}"
    return Figure(title, names, bar_chart(bars, label=f"{title}, over the epochs", foot="epoch"))
