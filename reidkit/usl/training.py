"""USL: the loop with pseudo-labels from clustering and cluster contrast as criterion (TransReID-SSL, section 4.4)."""

from pathlib import Path

import torch

from reidkit.datasets import ReIDDataset, Split, load_dataset
from reidkit.loop import (
    BatchContrast,
    Benchmark,
    ClusterContrast,
    Criterion,
    EpochLabels,
    FeatureSource,
    IdentityLoss,
    ImageSet,
    Progress,
    PseudoLabeler,
    Record,
    RunConfig,
    RunFolder,
    Stage,
    alternate,
    build_model,
    create_classifier,
    create_fabric,
    ground_truth,
    instances,
    read_split,
)

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

    Identities of the target's training images are never looked at; query and gallery serve evaluation only.

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
    target = _find(config.data.target, config, data_root, progress)
    labelled = bool(config.warmup.epochs and config.warmup.source)
    warm = _find(config.warmup.source, config, data_root, progress) if labelled else target
    model = build_model(config.backbone, config.seed)
    train, query, gallery = (
        _read(split, name, config, progress)
        for name, split in (("train", target.train), ("query", target.query), ("gallery", target.gallery))
    )
    source = _read(warm.train, "warm-up", config, progress) if labelled else train
    stages = usl_stages(train, source, config, model.feature_dim, fabric.device)
    return alternate(fabric, model, stages, Benchmark(query, gallery), run, config, progress, resume=resume)


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

    def contrast(extract: FeatureSource, labels: EpochLabels) -> Criterion:
        if labels.kind == "clusters":
            return ClusterContrast(extract(), labels, config.memory, device)
        return BatchContrast(config.warmup.temperature)

    alternation = Stage(config.training.epochs, train, PseudoLabeler(config.clustering), contrast)
    if not config.warmup.epochs:
        return [alternation]
    if not config.warmup.source:
        every_image = instances(len(source.pixels))
        return [Stage(config.warmup.epochs, source, lambda extract, epoch: every_image, contrast), alternation]
    identities = ground_truth(source.split.identities)
    classifier = create_classifier(feature_dim, identities.clusters)
    classify = IdentityLoss(classifier, config.warmup.label_smoothing)
    warm_up = Stage(
        config.warmup.epochs,
        source,
        label=lambda extract, epoch: identities,
        criterion=lambda extract, labels: classify,
        head=classifier,
    )
    return [warm_up, alternation]


def _find(name: str, config: RunConfig, data_root: Path | None, progress: Progress) -> ReIDDataset:
    progress.begin(f"find {name}", 1)
    dataset = load_dataset(name, data_root, progress=progress.advance)
    return dataset if config.data.cameras else dataset.without_cameras()


def _read(split: Split, name: str, config: RunConfig, progress: Progress) -> ImageSet:
    return read_split(split, name, config.backbone.image_size, strict=config.data.strict, progress=progress)
