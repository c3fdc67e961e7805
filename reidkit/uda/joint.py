"""Joint training: classes of the source and clusters of the target in one softmax (SpCL, arXiv 2006.02713)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reidkit.backbones import EmbeddingModel, source_statistics, split_domains
from reidkit.loop import (
    ClusterStage,
    EpochLabels,
    Features,
    ImageSet,
    Trainer,
    ground_truth,
    join_images,
)

__all__ = ["JointStage", "joint_stage"]


@dataclass(frozen=True, kw_only=True)
class JointStage(ClusterStage):
    """Epochs on both domains: half of every batch is the source's, BatchNorm keeps statistics of each.

    One memory holds the centroids of the source's identities and of the target's clusters, and every target image
    without a cluster as a class by itself (section 3.1). All move by momentum, as cluster contrast moves them.
    """

    identities: EpochLabels
    """Of the source's images, the first ones of `images`."""
    adapted: ImageSet
    """The target's images, with their cameras as numbered in `images`."""

    two_domains: ClassVar[bool] = True

    @property
    def target(self) -> ImageSet:
        """The target's images: clusters are found among them alone."""
        return self.adapted

    def extract(self, trainer: Trainer) -> Features:
        """Extract features of both domains, each normalised by its own statistics."""
        count = len(self.identities.labels)
        with source_statistics(trainer.model):
            source = trainer.extract(self.images, rows=slice(count))
        return np.concatenate([source, trainer.extract(self.images, rows=slice(count, None))])

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Join the source's identities, the target's clusters, and the images without a cluster."""
        assert features is not None
        known = self.identities
        found = self.labeler(features[len(known.labels) :], number)
        classes = found.labels.copy()
        alone = classes < 0
        classes[alone] = found.clusters + np.arange(alone.sum())
        return EpochLabels(np.concatenate([known.labels, classes + known.clusters]), "clusters", found=found)

    def batches(self, labels: EpochLabels, number: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Draw batches whose first half is the source's."""
        count, cameras = len(self.identities.labels), self.images.split.cameras
        domains = [(labels.labels[rows], cameras[rows]) for rows in (slice(count), slice(count, None))]
        return self.draw_batches(domains, self.learning.instances, number, rng.spawn(2))


def joint_stage(source: ImageSet, target: ImageSet, fields: Mapping[str, Any]) -> JointStage:
    """Create the stage.

    Args:
        source: Labelled images; those of unknown identity are left out.
        target: Images whose identities are not looked at.
        fields: From `cluster_fields`.

    Raises:
        DataError: No identity of the source is known.
    """
    joined = join_images(source, target)
    return JointStage(
        images=joined,
        identities=ground_truth(source.split.identities),
        adapted=ImageSet(joined.split.since(len(source.split)), target.pixels),
        prepare=_prepare,
        **fields,
    )


def _prepare(model: EmbeddingModel) -> None:
    """Start the neck afresh, and split BatchNorm statistics by domain."""
    model.reset_neck()
    split_domains(model)
