"""USL: the loop with pseudo-labels from clustering and cluster contrast as criterion (TransReID-SSL, section 4.4)."""

from dataclasses import replace
from pathlib import Path

from reidkit.loop import (
    SILENT,
    Benchmark,
    ClusterStage,
    IdentityLoss,
    IdentityStage,
    ImageSet,
    InstanceStage,
    Progress,
    Stage,
    Trainer,
    build_model,
    cluster_fields,
    create_classifier,
    create_fabric,
    find_dataset,
    ground_truth,
    read_benchmark,
    read_dataset,
    train,
)
from reidkit.runs import EpochRecord, RunConfig, RunFolder

__all__ = ["train_usl", "usl_stages"]


def train_usl(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress = SILENT,
    resume: bool = False,
) -> list[EpochRecord]:
    """Train on the unlabelled training images of `config.data.target`.

    Identities of the target's training images are never looked at; query and gallery, where the target has them, serve
    evaluation only.

    Args:
        config: All settings.
        run: Folder for checkpoints, metrics and labels.
        data_root: Folder of the data sets; None is `REIDKIT_DATA` or `data`.
        progress: Shows what is done.
        resume: Continue from the run's last checkpoint; in UDA, in either stage.

    Returns:
        One record per epoch, from epoch 0 (before training).

    Raises:
        ReidkitError: Data, weights, settings or the run folder are unusable.
    """
    fabric = create_fabric(config.training.device, config.training.precision)
    # Missing data or weights are found first, before minutes go into reading images.
    target = find_dataset(config.data.target, config, data_root, progress)
    labelled = bool(config.warmup.epochs and config.warmup.source)
    warm = find_dataset(config.warmup.source, config, data_root, progress) if labelled else target
    trainer = Trainer(fabric, build_model(config.backbone, config.seed), config, progress)
    images = read_dataset(target, "train", config, progress)
    source = read_dataset(warm, "train", config, progress) if labelled else images
    benchmark = Benchmark(read_benchmark(target, config, progress))
    return train(trainer, usl_stages(images, source, trainer), benchmark, run, resume=resume)


def usl_stages(images: ImageSet, source: ImageSet, trainer: Trainer) -> list[Stage]:
    """Create the warm-up, if there is one, then the stage of clustering and cluster contrast.

    Args:
        images: The target's training images.
        source: The warm-up's images: labelled ones of another data set, or the target's.
        trainer: Model, device and settings.
    """
    warmup, clusters = trainer.config.warmup, ClusterStage(images=images, **cluster_fields(trainer))
    if not warmup.epochs:
        return [clusters]
    learning = replace(clusters.learning, instances=warmup.instances)
    if not warmup.source:
        temperature = warmup.temperature
        return [
            InstanceStage(last_epoch=warmup.epochs, images=source, learning=learning, temperature=temperature),
            clusters,
        ]
    identities = ground_truth(source.split.identities)
    classifier = create_classifier(trainer.model.feature_dim, identities.clusters)
    classify = IdentityStage(
        last_epoch=warmup.epochs,
        images=source,
        learning=learning,
        head=classifier,
        identities=identities,
        classify=IdentityLoss(classifier, warmup.label_smoothing),
        memory=trainer.config.memory,
        device=trainer.fabric.device,
    )
    return [classify, clusters]
