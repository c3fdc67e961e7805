"""Losses of the stages, built from the parts in `reidkit.memory`."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reidkit.backbones import Embeddings
from reidkit.loop.labels import EpochLabels
from reidkit.memory import ClusterMemory, MemoryConfig, batch_contrast, batch_hard_triplet, cluster_centroids

__all__ = ["BatchContrast", "ClusterContrast", "Criterion", "IdentityLoss", "WithTriplet", "create_classifier"]

_CLASSIFIER_STD = 0.001  # as in BoT (Luo et al., CVPRW 2019): first logits are all but equal


class Criterion(Protocol):
    """The loss of an epoch's batches."""

    def __call__(self, outputs: Any, labels: Tensor, /) -> Tensor:
        """The loss, a scalar, of the network's outputs (`Embeddings` in most stages); labels (B,) are >= 0."""
        ...

    def update(self, outputs: Any, labels: Tensor, /) -> None:
        """Follow the optimiser's step, for instance by moving a memory bank."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State of a half-finished epoch beyond the weights of network and heads."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ...


class _Stateless:
    """A criterion without state."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Ignore it."""

    def update(self, outputs: Any, labels: Tensor, /) -> None:
        """Do nothing: all that is learned is learned by gradient."""


class BatchContrast(_Stateless):
    """Contrast inside the batch on the feature after the neck.

    Args:
        temperature: Temperature of the softmax over the batch.
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """Images of equal label attract, all others repel."""
        return batch_contrast(embeddings.after_neck, labels, temperature=self._temperature)


def create_classifier(feature_dim: int, classes: int) -> nn.Linear:
    """A bias-free classifier (classes, feature_dim) with small random weights, the head of `IdentityLoss`."""
    classifier = nn.Linear(feature_dim, classes, bias=False)
    nn.init.normal_(classifier.weight, std=_CLASSIFIER_STD)
    return classifier


class IdentityLoss(_Stateless):
    """Cross-entropy over identities on the feature after the neck (ID loss of BoT, Luo et al., CVPRW 2019).

    Args:
        classifier: From `create_classifier`; the head of the stage.
        label_smoothing: Share of the target that is spread over all identities, in [0, 1).
    """

    def __init__(self, classifier: nn.Linear, label_smoothing: float) -> None:
        self._classifier = classifier
        self._label_smoothing = label_smoothing

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """Every image goes to its identity."""
        logits = self._classifier(embeddings.after_neck)
        return functional.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)


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
        """Update the other criterion."""
        self._criterion.update(embeddings, labels)

    def state_dict(self) -> dict[str, Any]:
        """State of the other criterion."""
        return self._criterion.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give it to the other criterion."""
        self._criterion.load_state_dict(state)


class ClusterContrast:
    """Cluster contrast on the feature after the neck, with a memory of cluster centroids.

    Args:
        features: (N, D) float32, L2-normalised, of all training images; not needed with a state.
        labels: Their labels.
        config: Temperature, momentum and update rule of the memory.
        device: Where the memory is stored.
        state: Of the memory, to continue from.
    """

    def __init__(
        self,
        features: NDArray[Any] | None,
        labels: EpochLabels,
        config: MemoryConfig,
        device: torch.device,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if state is None:
            assert features is not None
            centroids = cluster_centroids(torch.from_numpy(features), torch.from_numpy(labels.labels))
        else:
            centroids = state["centroids"]
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
        """Return the memory."""
        return dict(self.memory.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a memory of the same clusters."""
        self.memory.load_state_dict(state)
