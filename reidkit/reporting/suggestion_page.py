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

    # Charts
    steps = [step / 100 for step in range(round(100 * last) + 1)]  # core points need no clustering
    lines = {
        "Core points, % of the images": ("{:.1f} %", [(eps, 100 * suggestion.core_share(eps)) for eps in steps]),
        "Clusters": ("{:,.0f}", [(trial.eps, float(trial.clusters)) for trial in suggestion.trials]),
        "Noise, % of the images": ("{:.1f} %", [(trial.eps, 100 * trial.noise) for trial in suggestion.trials]),
        "Score": ("{:.3f}", [(trial.eps, trial.score) for trial in suggestion.trials]),
    }
    figures = []
    for title, (text, points) in lines.items():
        series = Series(title.split(",")[0].lower(), points, text)
        marked = None if best is None else best.eps
        drawing = line_chart([series], label=f"{title}, over eps", span=(0, last), foot="eps", marked=marked)
        figures.append(Figure(title, [], drawing))

    # Words
    headline = "No eps finds two clusters"
    if best is not None:
        headline = f"Suggested eps {best.eps:g}: {count(best.clusters, 'cluster')}, {percent(best.noise)} noise"
    explanation = (
        f"{count(len(suggestion.distances), 'image')}; k-reciprocal Jaccard distance; DBSCAN with min_samples "
        f"{suggestion.min_samples}. A core point has {suggestion.min_samples} images within eps, itself included. The "
        "score is the mean silhouette over all images, noise counting as 0; the highest is suggested."
    )
    write_figures(path, headline, explanation, figures)
