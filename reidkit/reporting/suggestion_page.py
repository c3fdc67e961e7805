"""A page on which eps to cluster with, and why."""

from pathlib import Path

from reidkit.clustering import EPS_TRIALS, EpsSuggestion
from reidkit.pages import Figure, Series, line_chart, write_figures
from reidkit.reporting.wording import count, percent

__all__ = ["plot_suggestion"]


def plot_suggestion(suggestion: EpsSuggestion, path: Path) -> None:
    """Write a page of charts over eps: core points, clusters, noise and score.

    Args:
        suggestion: From `suggest_eps`.
        path: The page, .html.

    Raises:
        DataError: The suffix is not .html, or the file cannot be written.
        RunError: The disk is full.
    """
    last, best = EPS_TRIALS[-1], suggestion.best
    steps = [step / 100 for step in range(round(100 * last) + 1)]  # core points need no clustering
    lines = {
        "Core points, % of the images": [(eps, 100 * suggestion.core_share(eps)) for eps in steps],
        "Clusters": [(trial.eps, float(trial.clusters)) for trial in suggestion.trials],
        "Noise, % of the images": [(trial.eps, 100 * trial.noise) for trial in suggestion.trials],
        "Score": [(trial.eps, trial.score) for trial in suggestion.trials],
    }
    formats = ("{:.1f} %", "{:,.0f}", "{:.1f} %", "{:.3f}")
    figures = []
    for (title, points), text in zip(lines.items(), formats, strict=True):
        series = Series(title.split(",")[0].lower(), points, text)
        marked = None if best is None else best.eps
        drawing = line_chart([series], label=f"{title}, over eps", span=(0, last), foot="eps", marked=marked)
        figures.append(Figure(title, [], drawing))
    write_figures(path, _headline(suggestion), _explanation(suggestion), figures)


def _headline(suggestion: EpsSuggestion) -> str:
    best = suggestion.best
    if best is None:
        return "No eps finds two clusters"
    return f"Suggested eps {best.eps:g}: {count(best.clusters, 'cluster')}, {percent(best.noise)} noise"


def _explanation(suggestion: EpsSuggestion) -> str:
    return (
        f"{count(len(suggestion.distances), 'image')}; k-reciprocal Jaccard distance; DBSCAN with min_samples "
        f"{suggestion.min_samples}. A core point has {suggestion.min_samples} images within eps, itself included. The "
        "score is the mean silhouette over all images, noise counting as 0; the highest is suggested."
    )
