"""Stages: runs of epochs that train on the same images by the same rule. A mode is a list of them."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import AugmentationConfig, apply_augmentation, draw_augmentation
from reidkit.loop.batches import class_batches
from reidkit.loop.criteria import (
    BatchContrast,
    ClusterContrast,
    Criterion,
    IdentityLoss,
    WithTriplet,
    create_classifier,
)
from reidkit.loop.images import ImageSet
from reidkit.loop.labels import EpochLabels, Features, PseudoLabeler, ground_truth, instances
from reidkit.loop.optimisation import StepHook, set_learning_rate
from reidkit.loop.randomness import start_draws
from reidkit.loop.schedules import epoch_rate
from reidkit.loop.trainer import Trainer
from reidkit.memory import MemoryConfig
from reidkit.runs import OptimizerConfig, RunConfig, ScheduleConfig

__all__ = [
    "Augment",
    "ClusterStage",
    "IdentityStage",
    "InstanceStage",
    "Learning",
    "Stage",
    "StagePlan",
    "cluster_fields",
    "identity_stage",
]

Augment = Callable[[Tensor, NDArray[np.int64]], Any]
"""Pixels (B', 3, H, W) uint8 on the device and their rows in the batch -> what the network sees of them."""

State = Mapping[str, Any]
"""From `Criterion.state_dict`."""

_VIEWS = 2  # of an image that is a class by itself, differently augmented, as in SimCLR (arXiv 2002.05709)


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
    mean: tuple[float, float, float]
    """Of the three colours, subtracted from pixels in [0, 1]."""
    std: tuple[float, float, float]
    accumulation_steps: int = 1
    """Parts of a batch that go through the network one after the other, to need less memory."""

    @classmethod
    def of(cls, config: RunConfig) -> "Learning":
        """Settings of the sections `training`, `sampler`, `optimizer`, `schedule`, `augmentation` and `data`."""
        return cls(
            config.training.iterations,
            config.sampler.batch_size,
            config.sampler.instances,
            config.optimizer,
            config.schedule,
            config.augmentation,
            config.data.mean,
            config.data.std,
        )


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """Epochs that train on the same images by the same rule; a subclass gives labels and criterion."""

    last_epoch: int
    """The stage's last epoch, counted from 1 over all stages."""
    images: ImageSet
    """N training images."""
    learning: Learning
    head: nn.Module | None = None
    """Parameters that the criterion learns besides the model's, such as a classifier."""
    retrieval: Literal["after_neck", "before_neck"] = "after_neck"
    """The feature that clusters and retrieves during the stage."""
    prepare: Callable[[EmbeddingModel], None] | None = None
    """Called on the model before the stage's first epoch. Such a stage starts with a new optimiser, and the model is
    evaluated before it; others continue with the optimiser of the stage before."""

    two_domains: ClassVar[bool] = False
    """Whether batches are two halves of different domains."""

    @property
    def network(self) -> nn.Module | None:
        """A network that is trained in place of the model, which follows it as a teacher does; part of the head."""
        return None

    @property
    def needs_features(self) -> bool:
        """Whether labels or criterion are made from the features of all images."""
        return False

    @property
    def target(self) -> ImageSet:
        """The images whose clusters are recorded: the last ones of `images`."""
        return self.images

    def extract(self, trainer: Trainer) -> Features:
        """Extract features (N, D) of all images."""
        return trainer.extract(self.images)

    @abstractmethod
    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Label the images for an epoch, counted from 1; features (N, D) are None unless the stage needs them."""

    @abstractmethod
    def criterion(self, features: Features | None, labels: EpochLabels, state: State | None = None) -> Criterion:
        """Create the loss of an epoch from features and labels, or that of a half-finished one from its state."""

    def batches(self, labels: EpochLabels, number: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Draw the batches (B,) of an epoch: P classes x K images."""
        # An image that is a class by itself is contrasted with itself.
        count = _VIEWS if labels.kind == "instances" else self.learning.instances
        return self.draw_batches([(labels.labels, self.images.split.cameras)], count, number, [rng])

    def draw_batches(
        self,
        domains: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
        instances: int,
        number: int,
        rngs: Sequence[np.random.Generator],
    ) -> Iterator[NDArray[np.int64]]:
        """Draw batches of the stage's size, as `class_batches` does."""
        size, steps = self.learning.batch_size, self.learning.iterations
        return class_batches(domains, batch_size=size, instances=instances, iterations=steps, number=number, rngs=rngs)

    def augment(self, count: int, rng: np.random.Generator) -> Augment:
        """Draw the augmentation of a batch of `count` images."""
        size = (self.images.pixels.shape[2], self.images.pixels.shape[3])
        look, mean, std = self.learning.augmentation, self.learning.mean, self.learning.std
        drawn, whole = draw_augmentation(count, size, rng, look), np.arange(count)

        def augment(pixels: Tensor, rows: NDArray[np.int64]) -> Tensor:
            part = drawn if np.array_equal(rows, whole) else drawn.of(rows)
            return apply_augmentation(pixels, part, look, mean=mean, std=std)

        return augment

    def step_hook(self, number: int) -> StepHook:
        """Create the hook of an epoch's steps; this one does nothing."""
        return StepHook()

    def metrics(self) -> dict[str, float]:
        """Metrics of the epoch just trained, for its record."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ClusterStage(Stage):
    """Pseudo-labels from clustering, cluster contrast as the loss (TransReID-SSL, section 4.4).

    An epoch without clusters contrasts images in the batch (SimCLR) instead.
    """

    labeler: PseudoLabeler
    memory: MemoryConfig
    temperature: float
    """Of the contrast in the batch."""
    device: torch.device
    """Where the memory is kept."""

    @property
    def needs_features(self) -> bool:
        """Clusters and their centroids come from features."""
        return True

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Cluster the features."""
        assert features is not None
        return self.labeler(features, number)

    def criterion(self, features: Features | None, labels: EpochLabels, state: State | None = None) -> Criterion:
        """Create the memory of the clusters' centroids."""
        if labels.kind != "clusters":
            return BatchContrast(self.temperature)
        return ClusterContrast(features, labels, self.memory, self.device, state)


def cluster_fields(trainer: Trainer) -> dict[str, Any]:
    """Fields of a `ClusterStage`, but for its images, that lasts to the run's end."""
    config, device = trainer.config, trainer.fabric.device
    return {
        "last_epoch": config.training.epochs,
        "learning": Learning.of(config),
        "labeler": PseudoLabeler(config.clustering, device=str(device), group=trainer.group),
        "memory": config.memory,
        "temperature": config.warmup.temperature,
        "device": device,
    }


@dataclass(frozen=True, kw_only=True)
class InstanceStage(Stage):
    """Every image a class by itself, contrasted in the batch (SimCLR, arXiv 2002.05709)."""

    temperature: float

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Number the images."""
        return instances(len(self.images.split))

    def criterion(self, features: Features | None, labels: EpochLabels, state: State | None = None) -> Criterion:
        """Contrast images in the batch."""
        return BatchContrast(self.temperature)


@dataclass(frozen=True, kw_only=True)
class IdentityStage(Stage):
    """Training on known identities, as supervised training and the first stage of UDA do it (BoT, CVPRW 2019)."""

    identities: EpochLabels
    classify: IdentityLoss | None
    """Classification; None: cluster contrast with identities as clusters."""
    memory: MemoryConfig
    device: torch.device
    triplet: float = 0.0
    """Weight of the batch-hard triplet loss that is added."""
    margin: float | None = None
    """Of the triplet loss; None is the soft margin."""

    @property
    def needs_features(self) -> bool:
        """Centroids come from features, a classifier does not."""
        return self.classify is None

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Return the identities."""
        return self.identities

    def criterion(self, features: Features | None, labels: EpochLabels, state: State | None = None) -> Criterion:
        """Combine classification or cluster contrast with the triplet loss."""
        chosen = self.classify or ClusterContrast(features, labels, self.memory, self.device, state)
        return WithTriplet(chosen, self.triplet, self.margin) if self.triplet else chosen


def identity_stage(images: ImageSet, trainer: Trainer, *, last_epoch: int) -> IdentityStage:
    """Create the stage of the section `supervised`.

    Args:
        images: Labelled images; those of unknown identity are left out.
        trainer: Its `supervised` settings decide, and `augmentation` but for the erasing's fill.
        last_epoch: The stage's last epoch.

    Raises:
        DataError: No identity is known.
    """
    config, settings = trainer.config, trainer.config.supervised
    identities = ground_truth(images.split.identities)
    classify = settings.criterion == "identities"
    head = create_classifier(trainer.model.feature_dim, identities.clusters) if classify else None
    learning = replace(
        Learning.of(config),
        iterations=settings.iterations or max(1, len(images.split) // settings.batch_size),
        batch_size=settings.batch_size,
        instances=settings.instances,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        augmentation=config.augmentation.model_copy(update={"erasing_fill": settings.erasing_fill}),
    )
    return IdentityStage(
        last_epoch=last_epoch,
        images=images,
        learning=learning,
        head=head,
        retrieval="before_neck" if classify else "after_neck",
        identities=identities,
        classify=None if head is None else IdentityLoss(head, settings.label_smoothing),
        memory=config.memory,
        device=trainer.fabric.device,
        triplet=settings.triplet,
        margin=settings.margin,
    )


class StagePlan:
    """Which stage an epoch, counted from 1, belongs to.

    Args:
        stages: In the order of their epochs; the last one lasts to the run's end.
        epochs: Of the run.
    """

    def __init__(self, stages: Sequence[Stage], epochs: int) -> None:
        self.stages, self.epochs = stages, epochs

    def at(self, number: int) -> Stage:
        """The stage of an epoch."""
        return self.stages[self._index(number)]

    def set_up(self, number: int, trainer: Trainer, *, prepare: bool) -> Stage:
        """Set up network and optimiser as the stage of an epoch has them, with the parts that it adds to the model."""
        stage = self.at(number)
        if prepare and stage.prepare is not None:
            stage.prepare(trainer.model)
        trainer.set_up(stage.network, stage.learning.optimizer)
        return stage

    def enter(self, number: int, trainer: Trainer) -> Stage:
        """Prepare the trainer for an epoch: parts of a new stage, random state, learning rate."""
        stage, start = self.at(number), self.stage_start(number)
        if stage.prepare is not None and number == start + 1:
            self.set_up(number, trainer, prepare=True)
        trainer.model.retrieval = stage.retrieval
        start_draws(trainer.config.seed, number, trainer.group)
        last = min(stage.last_epoch, self.epochs)
        base, schedule = stage.learning.optimizer.learning_rate, stage.learning.schedule
        set_learning_rate(trainer.optimizer, epoch_rate(number - start, last - start, base, schedule))
        return stage

    def stage_start(self, number: int) -> int:
        """The last epoch of the stage before that of an epoch, or 0."""
        index = self._index(number)
        return self.stages[index - 1].last_epoch if index else 0

    def ends_stage(self, number: int) -> bool:
        """Whether another stage starts with a new optimiser after an epoch, or the run ends."""
        for stage, following in itertools.pairwise(self.stages[self._index(number) :]):
            if following.prepare is not None:
                return number == stage.last_epoch
        return number == self.epochs

    def _index(self, number: int) -> int:
        last = len(self.stages) - 1
        return next((index for index, stage in enumerate(self.stages) if number <= stage.last_epoch), last)
