"""The charts of the page, from the epochs and the clusters of one or several runs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.pages import Bar, Figure, Series, bar_chart, line_chart
from reidkit.reporting.run import Epoch
from reidkit.reporting.wording import count, duration

__all__ = ["compared_curves", "curves", "shaded", "size_histogram", "stages", "unrecorded"]

_STAGES = ("extract", "cluster", "label", "train", "evaluate")
_MOST_BINS = 24


class _Plot(NamedTuple):
    """One chart before it is drawn."""

    title: str
    names: Mapping[str, str]
    """Name of a metric or of the clustering's quality -> name of its line."""
    text: str = "{:,.4g}"
    scale: float = 1.0
    clustered: bool = False
    """Leave out the epochs without clusters."""
    expected: bool = False
    """Mention it on the page where it was not recorded."""

    def lines(self, epochs: Sequence[Epoch]) -> list[Series]:
        """The lines that have a value."""
        found = [Series(line, self.points(epochs, name), self.text) for name, line in self.names.items()]
        return [line for line in found if _drawable(line)]

    def points(self, epochs: Sequence[Epoch], name: str) -> list[tuple[float, float]]:
        """Values by epoch; NaN, which interrupts the line, in epochs without clusters if they are left out."""
        return [
            (epoch.number, math.nan if self.clustered and epoch.kind != "clusters" else self.scale * values[name])
            for epoch in epochs
            if name in (values := _values(epoch))
        ]


_ACCURACY = _Plot("Accuracy on the target, %", {"mAP": "mAP", "rank1": "Rank-1"}, "{:.1f} %", expected=True)
_PLOTS = (
    _ACCURACY,
    _Plot("Loss", {"loss": "loss"}, expected=True),
    _Plot("Clusters", {"clusters": "clusters"}, "{:,.0f}", clustered=True, expected=True),
    _Plot("Noise, % of the images", {"noise": "noise"}, "{:.1f} %", scale=100, clustered=True, expected=True),
    _Plot("Agreement with the epoch before, ARI", {"stability": "ARI"}, "{:.3f}"),
    _Plot("Silhouette of the clusters", {"silhouette": "silhouette"}, "{:.3f}"),
    _Plot("Cameras in a cluster", {"cameras_per_cluster": "cameras"}, "{:.2f}"),
    _Plot("Learning rate", {"learning_rate": "learning rate"}, "{:.3g}", expected=True),
)
_IN_THE_TABLE = {"epoch", "rank5", "rank10", "mINP", "images", "skipped"}
_IN_THE_HISTOGRAM = "cluster_sizes/"


def curves(epochs: Sequence[Epoch]) -> list[Figure]:
    """Draw all that was recorded over the epochs: accuracy, loss, clusters, their quality, learning rate, time, others.

    A finite number of a name that is not known here gets its own curve. Clusters and noise leave out the epochs in
    which every image was a class; all curves shade them, where there are others.
    """
    figures = []
    for plot in _plots(epochs):
        lines = plot.lines(epochs)
        keys = [line.name for line in lines] if len(plot.names) > 1 else []
        figures += _line_figure(plot.title, lines, epochs, keys=keys, grey=shaded(epochs))
    return [*figures, *_times(epochs)]


def compared_curves(runs: Mapping[str, Sequence[Epoch]]) -> list[Figure]:
    """Draw the same metrics of several runs, a line for each run by its name; one chart for each metric."""
    every = [epoch for epochs in runs.values() for epoch in epochs]
    accuracy = (_ACCURACY._replace(title=f"{line}, %", names={name: line}) for name, line in _ACCURACY.names.items())
    figures = []
    for plot in (*accuracy, *_plots(every)[1:]):
        (name,) = plot.names
        lines = [Series(run, plot.points(epochs, name), plot.text) for run, epochs in runs.items()]
        figures += _line_figure(plot.title, lines, every)
    times = [
        Series(run, [(epoch.number, sum(epoch.seconds.values())) for epoch in epochs if epoch.seconds], "{:,.1f} s")
        for run, epochs in runs.items()
    ]
    return [*figures, *_line_figure("Time of an epoch, s", times, every)]


def unrecorded(epochs: Sequence[Epoch]) -> list[str]:
    """Titles of the expected charts that have nothing to show."""
    return [plot.title for plot in _PLOTS if plot.expected and not plot.lines(epochs)]


def shaded(epochs: Sequence[Epoch]) -> list[int]:
    """Epochs that trained with every image as a class, in a run that does otherwise in others."""
    if not any(epoch.kind == "clusters" for epoch in epochs):
        return []
    return [epoch.number for epoch in epochs if epoch.kind == "instances"]


def size_histogram(sizes: NDArray[np.int64]) -> Figure:
    """Draw how many clusters (C,) have how many images.

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


def _plots(epochs: Sequence[Epoch]) -> list[_Plot]:
    """The known plots, accuracy first, and one for each other name that occurs."""
    known = _IN_THE_TABLE.union(*(plot.names for plot in _PLOTS))
    names = dict.fromkeys(name for epoch in epochs for name in _values(epoch))
    others = [name for name in names if name not in known and not name.startswith(_IN_THE_HISTOGRAM)]
    words = {name: name[:1].upper() + name[1:].replace("_", " ") for name in others}
    return [*_PLOTS, *(_Plot(words[name], {name: words[name]}) for name in others)]


def _values(epoch: Epoch) -> dict[str, float]:
    return epoch.quality | epoch.metrics


def _drawable(line: Series) -> bool:
    return any(math.isfinite(y) for _, y in line.points)


def _line_figure(
    title: str, lines: list[Series], epochs: Sequence[Epoch], *, keys: Sequence[str] = (), grey: Sequence[int] = ()
) -> list[Figure]:
    """One chart, or none where no line has a value; a line without one keeps its colour."""
    if not any(_drawable(line) for line in lines):
        return []
    numbers = [epoch.number for epoch in epochs]
    span = min(numbers), max(numbers)
    return [Figure(title, list(keys), line_chart(lines, label=f"{title}, over the epochs", span=span, shaded=grey))]


def _times(epochs: Sequence[Epoch]) -> list[Figure]:
    names = stages(epochs)
    if not names:
        return []
    longest = max(sum(epoch.seconds.values()) for epoch in epochs)
    unit, size = ("s", 1) if longest < 600 else ("min", 60) if longest < 36_000 else ("h", 3600)
    bars = []
    for epoch in epochs:
        seconds = [epoch.seconds.get(name, 0.0) for name in names]
        tips = [f"epoch {epoch.number}: {name} {duration(time)}" for name, time in zip(names, seconds, strict=True)]
        bars.append(Bar(str(epoch.number), [time / size for time in seconds], tips))
    title = f"Time by stage, {unit}"
    return [Figure(title, names, bar_chart(bars, label=f"{title}, over the epochs", foot="epoch"))]
