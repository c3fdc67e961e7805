"""Joint training: classes of the source and clusters of the target in one softmax (SpCL, arXiv 2006.02713)."""

import numpy as np
import torch

from reidkit.backbones import EmbeddingModel, split_domains
from reidkit.loop import (
    ClusterContrast,
    Criterion,
    EpochLabels,
    FeatureSource,
    ImageSet,
    Learning,
    PseudoLabeler,
    Stage,
    ground_truth,
    join_images,
)
from reidkit.runs import RunConfig

__all__ = ["joint_stage"]


def joint_stage(source: ImageSet, target: ImageSet, config: RunConfig, device: torch.device) -> Stage:
    """Epochs on both domains: half of every batch is the source's, BatchNorm keeps statistics of each.

    One memory holds the centroids of the source's identities and of the target's clusters, and every target image that
    is in no cluster as a class of its own (section 3.1). All move by momentum, as cluster contrast moves them.

    Args:
        source: Labelled images; those of unknown identity are left out.
        target: Images whose identities are not looked at.
        config: All settings.
        device: Where the memory lies.

    Raises:
        DataError: No identity of the source is known.
    """
    known = ground_truth(source.split.identities)
    pseudo_label = PseudoLabeler(config.clustering)
    count = len(source.split)

    def label(extract: FeatureSource, epoch: int) -> EpochLabels:
        found = pseudo_label(lambda: extract()[count:], epoch)
        classes = found.labels.copy()
        alone = classes < 0
        classes[alone] = found.clusters + np.arange(alone.sum())
        return EpochLabels(np.concatenate([known.labels, classes + known.clusters]), "clusters", found=found)

    def contrast(extract: FeatureSource, labels: EpochLabels) -> Criterion:
        return ClusterContrast(extract(), labels, config.memory, device)

    return Stage(
        config.training.epochs,
        join_images(source, target),
        label,
        contrast,
        Learning.of(config),
        prepare=_prepare,
        source_images=count,
    )


def _prepare(model: EmbeddingModel) -> None:
    """A neck as new, and BatchNorm statistics for each domain."""
    model.reset_neck()
    split_domains(model)
