"""A picture of which eps to cluster with, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reidkit.clustering import EPS_TRIALS, EpsSuggestion
from reidkit.errors import DataError
from reidkit.reporting.wording import count, percent

if TYPE_CHECKING:  # matplotlib takes a second to load, and only the plot needs it
    from matplotlib.axes import Axes

__all__ = ["plot_suggestion"]

_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#666666"
"""Of Okabe and Ito's palette, which all kinds of colour vision tell apart."""


def plot_suggestion(suggestion: EpsSuggestion, path: Path) -> None:
    """Draw the k-distance curve and, over eps, the clusters, the noise and the score.

    Args:
        suggestion: From `suggest_eps`.
        path: The picture; its suffix is its format, PNG without one.

    Raises:
        DataError: The file cannot be written, or matplotlib does not know the format.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.5, 5.8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    grid = figure.add_gridspec(3, 2, width_ratios=(1.15, 1))
    _draw_curve(figure.add_subplot(grid[:, 0]), suggestion)
    eps = [trial.eps for trial in suggestion.trials]
    panels: list[Axes] = [figure.add_subplot(grid[row, 1]) for row in range(3)]
    _draw_trials(panels[0], "Clusters", eps, [trial.clusters for trial in suggestion.trials])
    _draw_trials(panels[1], "Noise, % of images", eps, [100 * trial.noise for trial in suggestion.trials])
    _draw_trials(panels[2], "Score", eps, [trial.score for trial in suggestion.trials])
    panels[0].yaxis.set_major_locator(MaxNLocator(4, integer=True))
    most = max(1, *(trial.clusters for trial in suggestion.trials))
    panels[0].set_ylim(-0.04 * most, 1.12 * most)
    panels[1].set_ylim(-4, 104)
    panels[2].set_xlabel("eps")
    for panel in panels:
        panel.set_xlim(eps[0] - 0.025, eps[-1] + 0.025)
        panel.tick_params(labelbottom=panel is panels[2])
        if suggestion.best is not None:
            panel.axvline(suggestion.best.eps, color=_VERMILION, linestyle="--", linewidth=1.5, zorder=1)
    figure.suptitle(_headline(suggestion), x=0.02, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(_caption(suggestion), x=0.02, ha="left", fontsize=9, color=_GREY)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise DataError(f"the plot could not be written to {path}: {error}; name a file such as eps.png") from error


def _draw_curve(axes: "Axes", suggestion: EpsSuggestion) -> None:
    """Share of the images (x) that are core points from which eps (y)."""
    distances = suggestion.distances
    reached = distances < 1
    share = 100 * np.arange(1, len(distances) + 1) / len(distances)
    axes.plot(share[reached], distances[reached], color=_BLUE, linewidth=2)
    best = suggestion.best
    if best is not None:
        core = 100 * suggestion.core_share(best.eps)
        left = core > 50  # a rising curve leaves this corner free
        axes.axhline(best.eps, color=_VERMILION, linestyle="--", linewidth=1.5, zorder=1)
        axes.plot(core, best.eps, color=_VERMILION, marker="o", markersize=7)
        axes.annotate(
            f"eps {best.eps:g}: {core:.0f} % are core points",
            (0 if left else 100, best.eps),
            xytext=(8, 7) if left else (-4, -7),
            textcoords="offset points",
            ha="left" if left else "right",
            va="bottom" if left else "top",
            color=_VERMILION,
        )
    axes.set(xlim=(0, 100), ylim=(0, EPS_TRIALS[-1] + 0.05))
    axes.set_xlabel("images, %, sorted by this distance")
    axes.set_title(f"Distance to the {_ordinal(suggestion.min_samples)} nearest image", loc="left", fontsize=11, pad=8)
    _tidy(axes)


def _draw_trials(axes: "Axes", title: str, eps: list[float], values: list[Any]) -> None:
    axes.plot(eps, values, color=_BLUE, linewidth=1.5, marker="o", markersize=4)
    axes.set_title(title, loc="left", fontsize=11, pad=8)
    axes.margins(y=0.15)
    _tidy(axes)


def _tidy(axes: "Axes") -> None:
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _headline(suggestion: EpsSuggestion) -> str:
    best = suggestion.best
    if best is None:
        return "No eps finds two clusters"
    return f"Suggested eps {best.eps:g}: {count(best.clusters, 'cluster')}, {percent(best.noise)} noise"


def _caption(suggestion: EpsSuggestion) -> str:
    return (
        f"{count(len(suggestion.distances), 'image')}; k-reciprocal Jaccard distance; DBSCAN with min_samples "
        f"{suggestion.min_samples}; an image is its own first nearest. Left: the curve ends where\nmore than eps "
        f"{EPS_TRIALS[-1]:g} would be needed. Right: the score is the mean silhouette over all images, noise counting "
        "as 0; the highest is suggested."
    )


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
