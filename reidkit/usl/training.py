"""USL: the loop with pseudo-labels from clustering and cluster contrast as criterion (TransReID-SSL, section 4.4)."""

from dataclasses import replace
from pathlib import Path

import torch

from reidkit.loop import (
    BatchContrast,
    Benchmark,
    IdentityLoss,
    ImageSet,
    Progress,
    Stage,
    alternate,
    build_model,
    cluster_stage,
    create_classifier,
    create_fabric,
    find_dataset,
    ground_truth,
    instances,
    read_benchmark,
    read_dataset,
)
from reidkit.runs import Record, RunConfig, RunFolder

__all__ = ["train_usl", "usl_stages"]


def train_usl(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> list[Record]:
    """Train on the unlabelled training images of `config.data.target`.

    Identities of the target's training images are never looked at; query and gallery, where the target has them, serve
    evaluation only.

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
    fabric = create_fabric(config.training.device, config.training.precision)
    # What may be missing is looked for first, before minutes go into reading images.
    target = find_dataset(config.data.target, config, data_root, progress)
    labelled = bool(config.warmup.epochs and config.warmup.source)
    warm = find_dataset(config.warmup.source, config, data_root, progress) if labelled else target
    model = build_model(config.backbone, config.seed)
    train = read_dataset(target, "train", config, progress)
    source = read_dataset(warm, "train", config, progress) if labelled else train
    benchmark = Benchmark(read_benchmark(target, config, progress))
    stages = usl_stages(train, source, config, model.feature_dim, fabric.device)
    return alternate(fabric, model, stages, benchmark, run, config, progress, resume=resume)


def usl_stages(
    train: ImageSet, source: ImageSet, config: RunConfig, feature_dim: int, device: torch.device
) -> list[Stage]:
    """The warm-up, if there is one, then the alternation of clustering and cluster contrast.

    Args:
        train: The target's training images.
        source: The warm-up's images: labelled ones of another data set, or the target's.
        config: All settings.
        feature_dim: Size D of the features.
        device: Where the memory bank lies.
    """
    alternation = cluster_stage(train, config, device)
    if not config.warmup.epochs:
        return [alternation]
    learning = replace(alternation.learning, instances=config.warmup.instances)
    if not config.warmup.source:
        every_image, contrast = instances(len(source.split)), BatchContrast(config.warmup.temperature)
        warm_up = Stage(
            config.warmup.epochs,
            source,
            label=lambda extract, epoch: every_image,
            criterion=lambda extract, labels: contrast,
            learning=learning,
        )
        return [warm_up, alternation]
    identities = ground_truth(source.split.identities)
    classifier = create_classifier(feature_dim, identities.clusters)
    classify = IdentityLoss(classifier, config.warmup.label_smoothing)
    warm_up = Stage(
        config.warmup.epochs,
        source,
        label=lambda extract, epoch: identities,
        criterion=lambda extract, labels: classify,
        learning=learning,
        head=classifier,
    )
    return [warm_up, alternation]
