"""Stages: runs of epochs that train on the same images by the same rule. A mode is a list of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import AugmentationConfig
from reidkit.loop.criteria import BatchContrast, ClusterContrast, IdentityLoss, WithTriplet, create_classifier
from reidkit.loop.epoch import Criterion, Steering
from reidkit.loop.images import ImageSet
from reidkit.loop.labels import EpochLabels, FeatureSource, PseudoLabeler, ground_truth
from reidkit.runs import OptimizerConfig, RunConfig, ScheduleConfig

__all__ = ["Learning", "Stage", "cluster_stage", "identity_stage"]


ShowViews = Callable[[Tensor, NDArray[np.int64]], Any]


@dataclass(frozen=True, slots=True)
class Learning:
    """How a stage learns from its labels."""

    iterations: int
    """Training steps in an epoch."""
    batch_size: int
    """Images of a step."""
    instances: int
    """Images of a class in a batch."""
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    """Over the epochs of the stage."""
    augmentation: AugmentationConfig
    parts: int = 1
    """A batch goes through the network in so many parts, to need less memory."""

    @classmethod
    def of(cls, config: RunConfig) -> "Learning":
        """What the settings of the alternation say."""
        sampler = config.sampler
        return cls(
            config.training.iterations,
            sampler.batch_size,
            sampler.instances,
            config.optimizer,
            config.schedule,
            config.augmentation,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Epochs that train on the same images by the same rule; what a mode gives to the loop."""

    last_epoch: int
    """The stage's last epoch, counted from 1 over all stages."""
    train: ImageSet
    label: Callable[[FeatureSource, int], EpochLabels]
    """Features at the start of an epoch, and the epoch -> labels of the training images."""
    criterion: Callable[[FeatureSource, EpochLabels], Criterion]
    """Features and labels at the start of an epoch -> what its batches are trained by."""
    learning: Learning
    head: nn.Module | None = None
    """What the criterion learns besides the model, such as a classifier."""
    retrieval: Literal["after_neck", "before_neck"] = "after_neck"
    """The feature that clusters and retrieves while the stage lasts."""
    prepare: Callable[[EmbeddingModel], None] | None = None
    """What is done to the model before the stage's first epoch. Such a stage has an optimiser of its own, and the model
    is evaluated before it begins; others go on with the optimiser of the stage before."""
    source_images: int = 0
    """So many of the images, the first ones, are of a source domain: one half of every batch, again the first, is drawn
    from them, and their features are extracted with the source's BatchNorm statistics."""
    network: nn.Module | None = None
    """What is trained in place of the model, which then follows it, as a teacher does; part of the head."""
    views: Callable[[int, tuple[int, int], np.random.Generator], ShowViews] | None = None
    """What the network sees, in place of the augmentation: draws it for a batch of so many images (H, W); what it
    returns makes it of pixels (B', 3, H, W) uint8 that are given rows of the batch."""
    steering: Callable[[int], Steering] | None = None
    """The epoch, counted from 1 -> what surrounds its optimiser's steps: rates that change from step to step."""
    figures: Callable[[], dict[str, float]] = dict
    """What is measured beside the loss in the epoch that has just been trained, for its record."""


def cluster_stage(train: ImageSet, config: RunConfig, device: torch.device) -> Stage:
    """The alternation of clustering and cluster contrast, to the run's end (TransReID-SSL, section 4.4).

    Args:
        train: Images; their identities are not looked at.
        config: All settings.
        device: Where the memory bank lies.
    """

    def contrast(extract: FeatureSource, labels: EpochLabels) -> Criterion:
        if labels.kind == "clusters":
            return ClusterContrast(extract(), labels, config.memory, device)
        return BatchContrast(config.warmup.temperature)

    label = PseudoLabeler(config.clustering)
    return Stage(config.training.epochs, train, label, contrast, Learning.of(config))


def identity_stage(
    train: ImageSet, config: RunConfig, *, last_epoch: int, feature_dim: int, device: torch.device
) -> Stage:
    """Training on known identities, as supervised training and the first stage of UDA do it (BoT, CVPRW 2019).

    Args:
        train: Labelled images; those of unknown identity are left out.
        config: Its `supervised` settings decide, and `augmentation` but for the erasing's fill.
        last_epoch: The stage's last epoch.
        feature_dim: Size D of the features.
        device: Where a memory bank lies.

    Raises:
        DataError: No identity is known.
    """
    settings = config.supervised
    identities = ground_truth(train.split.identities)
    head: nn.Linear | None = None
    if settings.criterion == "identities":
        head = create_classifier(feature_dim, identities.clusters)
        fixed: Criterion = IdentityLoss(head, settings.label_smoothing)

    def criterion(extract: FeatureSource, labels: EpochLabels) -> Criterion:
        chosen = fixed if head is not None else ClusterContrast(extract(), labels, config.memory, device)
        return WithTriplet(chosen, settings.triplet, settings.margin) if settings.triplet else chosen

    learning = Learning(
        settings.iterations or max(1, len(train.split) // settings.batch_size),
        settings.batch_size,
        settings.instances,
        settings.optimizer,
        settings.schedule,
        config.augmentation.model_copy(update={"erasing_fill": settings.erasing_fill}),
    )
    return Stage(
        last_epoch,
        train,
        label=lambda extract, epoch: identities,
        criterion=criterion,
        learning=learning,
        head=head,
        retrieval="before_neck" if settings.criterion == "identities" else "after_neck",
    )
