"""What a batch is trained by, built from the parts in `reidkit.memory`."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reidkit.backbones import Embeddings
from reidkit.loop.epoch import Criterion
from reidkit.loop.labels import EpochLabels
from reidkit.memory import ClusterMemory, MemoryConfig, batch_contrast, batch_hard_triplet, cluster_centroids

__all__ = ["BatchContrast", "ClusterContrast", "IdentityLoss", "WithTriplet", "create_classifier"]

_CLASSIFIER_STD = 0.001  # as in BoT (Luo et al., CVPRW 2019): first logits are all but equal


class _Stateless:
    """A criterion that remembers nothing from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""


class BatchContrast(_Stateless):
    """Contrast inside the batch on the feature after the neck; nothing is remembered.

    Args:
        temperature: Temperature of the softmax over the batch.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """Images of equal label attract, all others repel."""
        return batch_contrast(embeddings.after_neck, labels, temperature=self._temperature)

    def update(self, embeddings: Embeddings, labels: Tensor) -> None:
        """Nothing to do."""


def create_classifier(feature_dim: int, classes: int) -> nn.Linear:
    """A bias-free classifier (classes, feature_dim) with small random weights, the head of `IdentityLoss`."""
    classifier = nn.Linear(feature_dim, classes, bias=False)
    nn.init.normal_(classifier.weight, std=_CLASSIFIER_STD)
    return classifier


class IdentityLoss(_Stateless):
    """Cross-entropy over identities on the feature after the neck (ID loss of BoT, Luo et al., CVPRW 2019).

    Args:
        classifier: What `create_classifier` returns; it lives as long as the stage, which names it as its head.
        label_smoothing: Share of the target that is spread over all identities, in [0, 1).
    """

    def __init__(self, classifier: nn.Linear, label_smoothing: float) -> None:
        self._classifier = classifier
        self._label_smoothing = label_smoothing

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """Every image goes to its identity."""
        logits = self._classifier(embeddings.after_neck)
        return functional.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def update(self, embeddings: Embeddings, labels: Tensor) -> None:
        """Nothing to do: the classifier learns by gradient."""


class WithTriplet:
    """A criterion and, added to it, the batch-hard triplet loss on the feature before the neck.

    Args:
        criterion: The other criterion.
        weight: Weight of the triplet loss.
        margin: Its margin; None is the soft one.
    """

    def __init__(self, criterion: Criterion, weight: float, margin: float | None) -> None:
        self._criterion, self._weight, self._margin = criterion, weight, margin

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """The weighted sum."""
        triplet = batch_hard_triplet(embeddings.before_neck, labels, margin=self._margin)
        return self._criterion(embeddings, labels) + self._weight * triplet

    def update(self, embeddings: Embeddings, labels: Tensor) -> None:
        """What the other criterion does."""
        self._criterion.update(embeddings, labels)

    def state_dict(self) -> dict[str, Any]:
        """That of the other criterion."""
        return self._criterion.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give it back."""
        self._criterion.load_state_dict(state)


class ClusterContrast:
    """Cluster contrast on the feature after the neck, with a memory of cluster centroids.

    Args:
        features: (N, D) float32, L2-normalised, of all training images at the start of the epoch.
        labels: Their labels.
        config: Temperature, momentum and update rule of the memory.
        device: Where the memory lies.
    """

    def __init__(self, features: NDArray[Any], labels: EpochLabels, config: MemoryConfig, device: torch.device) -> None:
        centroids = cluster_centroids(torch.from_numpy(features), torch.from_numpy(labels.labels))
        self.memory = ClusterMemory(
            centroids, temperature=config.temperature, momentum=config.momentum, update=config.update
        ).to(device)

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """Cross-entropy over the clusters."""
        loss: Tensor = self.memory(embeddings.after_neck, labels)
        return loss

    def update(self, embeddings: Embeddings, labels: Tensor) -> None:
        """Move the centroids of the batch's clusters."""
        self.memory.update(embeddings.after_neck, labels)

    def state_dict(self) -> dict[str, Any]:
        """The memory."""
        return dict(self.memory.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a memory of as many clusters."""
        self.memory.load_state_dict(state)
