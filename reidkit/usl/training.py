"""USL: the loop with pseudo-labels from clustering and cluster contrast as criterion (TransReID-SSL, section 4.4)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import load_dataset
from reidkit.loop import (
    BatchContrast,
    ClusterContrast,
    Criterion,
    EpochLabels,
    Progress,
    PseudoLabeler,
    Record,
    RunConfig,
    RunFolder,
    Stage,
    alternate,
    build_model,
    create_fabric,
    read_split,
)

__all__ = ["train_usl"]


def train_usl(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> list[Record]:
    """Train on the unlabelled training images of `config.data.target`.

    Identities of training images are never looked at; query and gallery are labelled and serve evaluation only.

    Args:
        config: All settings.
        run: Where everything is written.
        data_root: Where data sets lie; None is `REIDKIT_DATA` or `data`.
        progress: Told of everything that happens.
        resume: Go on from the run's last checkpoint.

    Returns:
        One record per epoch, from epoch 0 (before training).

    Raises:
        ReidkitError: Data, weights, settings or the run folder are unusable.
    """
    progress = progress or Progress()
    data, size = config.data, config.backbone.image_size
    fabric = create_fabric(config.training.device, config.training.precision)
    model = build_model(config.backbone, config.seed)
    progress.begin("find images", 1)
    dataset = load_dataset(data.target, data_root, progress=progress.advance)
    if not data.cameras:
        dataset = dataset.without_cameras()
    train, query, gallery = (
        read_split(split, name, size, strict=data.strict, progress=progress)
        for name, split in (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery))
    )

    def criterion(features: NDArray[np.float32], labels: EpochLabels) -> Criterion:
        if labels.kind == "instances":
            return BatchContrast(config.warmup.temperature)
        return ClusterContrast(features, labels, config.memory, fabric.device)

    labeler = PseudoLabeler(config.clustering, config.warmup.epochs)
    stage = Stage(model, train, query, gallery, labeler, criterion)
    return alternate(fabric, stage, run, config, progress, resume=resume)
