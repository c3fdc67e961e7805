"""P x K batches: P clusters, K images of each, from different cameras where possible."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import TrainingError

__all__ = ["sample_batches"]

Indices = NDArray[np.int64]


def sample_batches(
    labels: Indices,
    cameras: Indices,
    *,
    clusters_per_batch: int,
    instances: int,
    batches: int,
    rng: np.random.Generator,
) -> Iterator[Indices]:
    """Draw the batches of one epoch (Cluster Contrast, section 4.1; camera preference as in Self-Paced Contrast).

    Clusters come in random permutations, so that all are seen equally often, and never twice in one batch. Of each,
    an anchor is drawn, then its K-1 companions from other cameras than the anchor's, or from the same camera where the
    cluster has no other; with replacement where there are too few. A cluster of one image is that image K times.

    Args:
        labels: (N,) cluster of every image; -1 (noise) is never drawn.
        cameras: (N,) 0-based camera ids; -1 (unknown) counts as one camera.
        clusters_per_batch: P; with fewer clusters than that a batch holds them all and is smaller.
        instances: K.
        batches: Number of batches.
        rng: Source of all randomness.

    Yields:
        (P * K,) indices into `labels`, the K of a cluster side by side.

    Raises:
        TrainingError: There is no cluster.
    """
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    if len(order) == 0:
        raise TrainingError(f"all {len(labels):,} images are noise (-1): there is nothing to draw batches from")
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    for chosen in _permuted_groups(len(members), min(clusters_per_batch, len(members)), batches, rng):
        yield np.concatenate([_draw(members[cluster], cameras, instances, rng) for cluster in chosen])


def _permuted_groups(count: int, size: int, groups: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Groups of `size` different numbers below `count`, cut from permutations laid end to end."""
    queue = rng.permutation(count)
    for _ in range(groups):
        if len(queue) < size:
            # The rest of the last permutation goes first; its repeats in the new one wait for a later group
            fresh = rng.permutation(count)
            repeated = np.isin(fresh, queue)
            queue = np.concatenate([queue, fresh[~repeated], fresh[repeated]])
        group, queue = queue[:size], queue[size:]
        yield group


def _draw(members: Indices, cameras: Indices, instances: int, rng: np.random.Generator) -> Indices:
    """An anchor and its companions, from other cameras where there are any."""
    anchor = rng.choice(members)
    elsewhere = members[cameras[members] != cameras[anchor]]
    companions = elsewhere if len(elsewhere) else members[members != anchor]
    if len(companions) == 0:
        return np.full(instances, anchor)
    rest = rng.choice(companions, instances - 1, replace=len(companions) < instances - 1)
    return np.concatenate([[anchor], rest])
