"""The cluster memory of Cluster Contrast (Dai et al., arXiv 2103.11568)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from reidkit.errors import ConfigError, TrainingError

__all__ = ["ClusterMemory", "Update", "cluster_centroids"]

Update = Literal["hard", "mean"]


def cluster_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """Unit-length mean feature of every cluster (Cluster Contrast, section 3.2).

    Args:
        features: (N, D) features, L2-normalised.
        labels: (N,) int64 in -1..C-1; -1 is noise and is ignored. Every cluster 0..C-1 has at least one member.

    Returns:
        (C, D) float32 unit vectors.

    Raises:
        TrainingError: No label is >= 0.
    """
    kept = labels >= 0
    if not bool(kept.any()):
        raise TrainingError(f"all {len(labels):,} labels are noise (-1): there is no cluster to take a centroid of")
    features, labels = features[kept].float(), labels[kept]
    sums = features.new_zeros(int(labels.max()) + 1, features.shape[1]).index_add_(0, labels, features)
    return F.normalize(sums)


class ClusterMemory(nn.Module):
    """Memory of one unit vector per cluster: cross-entropy over their softmax, updated with momentum.

    Args:
        centroids: (C, D) initial vectors; they are normalised.
        temperature: Temperature of the softmax, > 0.
        momentum: Share of the old vector that stays at an update, in [0, 1).
        update: `"hard"` updates a cluster once per batch with its instance of smallest similarity to the centroid;
            `"mean"` updates it with every instance in turn, in the order of the batch.

    Loss and update are separate calls: nothing changes in the backward pass::

        loss = memory(features, labels)      # gradients flow into the features only
        ...
        memory.update(features, labels)      # after the optimiser's step
    """

    centroids: Tensor

    def __init__(
        self, centroids: Tensor, *, temperature: float = 0.05, momentum: float = 0.2, update: Update = "hard"
    ) -> None:
        super().__init__()
        if centroids.ndim != 2 or len(centroids) == 0:
            raise ConfigError(f"centroids have shape {tuple(centroids.shape)}; expected (C, D) with C >= 1")
        if temperature <= 0:
            raise ConfigError(f"temperature={temperature}; it must be > 0 (the paper uses 0.05)")
        if not 0 <= momentum < 1:
            raise ConfigError(f"momentum={momentum}; it must be in [0, 1) (the paper uses 0.2)")
        if update not in get_args(Update):
            raise ConfigError(f"update={update!r}; choose one of {', '.join(get_args(Update))}")
        self.temperature = temperature
        self.momentum = momentum
        self._update = self._update_hard if update == "hard" else self._update_mean
        self.register_buffer("centroids", F.normalize(centroids.detach().float()))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy of a batch over the clusters, in float32 under any autocast.

        Args:
            features: (B, D) raw features; normalised here.
            labels: (B,) int64 in 0..C-1.

        Returns:
            The mean loss, a scalar. No gradient reaches the centroids.
        """
        with torch.autocast(features.device.type, enabled=False):
            logits = F.normalize(features.float()) @ self.centroids.t() / self.temperature
            return F.cross_entropy(logits, labels)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the batch's clusters: m <- normalise(momentum m + (1 - momentum) f).

        Args:
            features: (B, D) raw features; normalised here.
            labels: (B,) int64 in 0..C-1.
        """
        self._update(F.normalize(features.detach().float()), labels)

    def _update_hard(self, features: Tensor, labels: Tensor) -> None:
        clusters, members = torch.unique(labels, return_inverse=True)
        similarity = (features * self.centroids[labels]).sum(1)
        lowest = similarity.new_full(clusters.shape, torch.inf).scatter_reduce(0, members, similarity, "amin")
        # Of equal similarities the first in the batch counts, whichever a parallel reduction meets first
        positions = torch.arange(len(labels), device=labels.device)
        candidates = torch.where(similarity == lowest[members], positions, len(labels))
        hardest = torch.full_like(clusters, len(labels)).scatter_reduce(0, members, candidates, "amin")
        self._blend(clusters, features[hardest])

    def _update_mean(self, features: Tensor, labels: Tensor) -> None:
        # The i-th instances of all clusters update different centroids: one pass for each i keeps the order
        same_before = (labels[:, None] == labels[None, :]).tril(-1).sum(1)
        for number in range(int(same_before.max()) + 1):
            chosen = same_before == number
            self._blend(labels[chosen], features[chosen])

    def _blend(self, clusters: Tensor, features: Tensor) -> None:
        moved = self.momentum * self.centroids[clusters] + (1 - self.momentum) * features
        self.centroids[clusters] = F.normalize(moved)
