"""Suggestion of an eps: DBSCAN at many eps on one graph, and the score of each."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.dbscan import dbscan
from reidkit.clustering.density import core_distances
from reidkit.clustering.quality import cluster_sizes, silhouette

__all__ = ["EPS_TRIALS", "EpsSuggestion", "EpsTrial", "suggest_eps"]

EPS_TRIALS = tuple(step / 20 for step in range(2, 18))
"""0.10, 0.15, ..., 0.85: above, chance alone joins unrelated images."""


class EpsTrial(NamedTuple):
    """Result of DBSCAN at one eps."""

    eps: float
    clusters: int
    noise: float
    """Share of the images."""
    largest: int
    """Images of the largest cluster."""
    score: float
    """Mean silhouette over all images, noise counting as 0; NaN with fewer than two clusters."""


class EpsSuggestion(NamedTuple):
    """The eps to take, and the reasons for it."""

    best: EpsTrial | None
    """The trial of the highest score; None where no trial has two clusters."""
    trials: list[EpsTrial]
    """By rising eps."""
    distances: NDArray[np.float32]
    """(N,) `core_distances`, rising: the k-distance curve."""
    min_samples: int

    def core_share(self, eps: float) -> float:
        """Share of the images that are core points at an eps, in [0, 1]."""
        return float((self.distances <= np.float32(eps)).mean())


def suggest_eps(graph: Any, *, min_samples: int = 4, threads: int | None = None) -> EpsSuggestion:
    """Cluster one graph by DBSCAN at each eps of `EPS_TRIALS` and suggest the one that describes the images best.

    A small eps leaves most images out, a large one merges what does not belong together. The score weighs both: the
    silhouette averaged over all images, with 0 for noise. The smallest eps of the highest score is suggested.

    Args:
        graph: (N, N) distances from `jaccard_graph` with `max_distance` of at least `EPS_TRIALS[-1]`.
        min_samples: Images within eps, the image itself included, that make a core point.
        threads: Threads; None takes every core. The result is the same.

    Returns:
        The trials, the k-distance curve and the suggestion, which is None where no eps finds two clusters.

    Raises:
        ClusteringError: Not a square sparse graph, or `min_samples` < 1.
    """
    distances = np.sort(core_distances(graph, min_samples, threads=threads))
    trials = []
    for eps in EPS_TRIALS:
        labels, _ = dbscan(graph, eps=eps, min_samples=min_samples)
        found = cluster_sizes(labels)
        noise = found.noise / found.images
        score = (1 - noise) * silhouette(graph, labels, threads=threads)
        trials.append(EpsTrial(eps, len(found.sizes), noise, int(found.sizes.max(initial=0)), score))
    scored = [trial for trial in trials if math.isfinite(trial.score)]
    best = max(scored, key=lambda trial: trial.score, default=None)
    return EpsSuggestion(best, trials, distances, min_samples)
