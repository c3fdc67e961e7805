"""Clusters worth a look: tight, loose, mixed in cameras, suspected of being two individuals or a part of one.

With s the sum of a cluster's n unit features, the mean cosine of its pairs is (|s|^2 - n) / (n (n - 1)), and that of
the pairs between two clusters s_a . s_b / (n_a n_b): nothing here costs more than O(N D) and O(C^2 D), in blocks.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.reporting.run import Clustering, Integers, TrainingFeatures

__all__ = ["Clusters", "Suspect", "camera_entropy", "suspected_merges", "suspected_splits"]

Floats = NDArray[np.float64]

_BLOCK = 1024
_MOST_MEMBERS = 256
"""Images at even distances that stand for a larger cluster when it is cut in two."""
_FEWEST_HALF = 2


class Clusters:
    """The clusters of an epoch, with features, cameras and identities of the same images."""

    def __init__(self, clustering: Clustering, training: TrainingFeatures) -> None:
        self.clustering, self.training = clustering, training
        self.labels, self.sizes = clustering.clusters
        order = np.argsort(clustering.labels, kind="stable")
        starts = clustering.noise + np.concatenate([[0], np.cumsum(self.sizes)])
        self.members: list[Integers] = [order[a:b] for a, b in pairwise(starts.tolist())]
        """Rows of each of the C clusters."""
        sums = [training.features[rows].sum(axis=0) for rows in self.members]
        self.sums: NDArray[np.float32] = np.array(sums, np.float32).reshape(-1, training.features.shape[1])
        """(C, D) sum of the members' features."""
        pairs = np.maximum(self.sizes * (self.sizes - 1), 1)
        self.cohesion: Floats = np.where(
            self.sizes > 1, (np.square(self.sums.astype(np.float64)).sum(axis=1) - self.sizes) / pairs, np.nan
        )
        """(C,) mean cosine of the pairs in each; NaN in a cluster of one."""


class Suspect(NamedTuple):
    """A cluster that looks like two, or two clusters that look like one."""

    clusters: tuple[int, ...]
    """Places in `Clusters`: one, or two in ascending order."""
    halves: tuple[Integers, Integers]
    """Rows of the images of both halves; of one cluster that is cut, the larger half first."""
    within: float
    """Mean cosine of the pairs in one half; of two clusters, in the looser."""
    between: float
    """Mean cosine of the pairs across."""


def camera_entropy(clusters: Clusters) -> Floats:
    """Entropy in bits of the known cameras of each cluster (C,); 0 is one camera."""
    entropies = np.zeros(len(clusters.labels))
    for index, rows in enumerate(clusters.members):
        cameras = clusters.training.cameras[rows]
        counts = np.unique(cameras[cameras >= 0], return_counts=True)[1]
        if counts.size:
            share = counts / counts.sum()
            entropies[index] = max(0.0, -(share * np.log2(share)).sum())
    return entropies


def suspected_merges(clusters: Clusters, most: int) -> list[Suspect]:
    """Find the clusters that gain most in similarity by being cut in two, the most suspect first."""
    cuts = [_cut(clusters, index) for index in range(len(clusters.labels))]
    found = [cut for cut in cuts if cut is not None]
    return sorted(found, key=lambda cut: cut.between - cut.within)[:most]


def suspected_splits(clusters: Clusters, most: int) -> list[Suspect]:
    """Find the pairs of clusters that are most similar, relative to the images of the looser one.

    Each cluster is compared with the one nearest to it in this sense, so a pair is found if it is the nearest of one.
    """
    count = len(clusters.labels)
    if count < 2:
        return []
    means = clusters.sums / clusters.sizes[:, None]
    own = np.where(np.isnan(clusters.cohesion), 1, clusters.cohesion)
    found: dict[tuple[int, int], Suspect] = {}
    for start in range(0, count, _BLOCK):
        between = means[start : start + _BLOCK] @ means.T
        within = np.minimum(own[start : start + _BLOCK, None], own)
        score = between - within
        score[np.arange(len(score)), np.arange(start, start + len(score))] = -np.inf
        for row, other in enumerate(score.argmax(axis=1).tolist()):
            pair = min(start + row, other), max(start + row, other)
            halves = clusters.members[pair[0]], clusters.members[pair[1]]
            found[pair] = Suspect(pair, halves, float(within[row, other]), float(between[row, other]))
    return sorted(found.values(), key=lambda pair: pair.within - pair.between)[:most]


def _cut(clusters: Clusters, index: int) -> Suspect | None:
    """Cut a cluster by the sign of its first principal component; None where a half would be a single image."""
    rows = clusters.members[index]
    if len(rows) > _MOST_MEMBERS:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_MEMBERS).round().astype(np.int64)]
    cosines = clusters.training.features[rows].astype(np.float64)
    cosines = cosines @ cosines.T
    centred = cosines - cosines.mean(axis=0) - cosines.mean(axis=1)[:, None] + cosines.mean()
    side = np.linalg.eigh(centred)[1][:, -1] > 0
    left, right = np.flatnonzero(side), np.flatnonzero(~side)
    if min(len(left), len(right)) < _FEWEST_HALF:
        return None
    pairs = sum(len(half) * (len(half) - 1) for half in (left, right))
    own = sum(cosines[np.ix_(half, half)].sum() - np.trace(cosines[np.ix_(half, half)]) for half in (left, right))
    first, second = sorted((rows[left], rows[right]), key=len, reverse=True)
    return Suspect((index,), (first, second), float(own / pairs), float(cosines[np.ix_(left, right)].mean()))
