"""UDA: supervised epochs on a source, then the alternation on a target (TransReID-SSL, section 5.1), or on both."""

from pathlib import Path

from reidkit.backbones import EmbeddingModel, load_weights
from reidkit.errors import ConfigError
from reidkit.loop import (
    SILENT,
    Benchmark,
    ClusterStage,
    ImageSet,
    Progress,
    Stage,
    Trainer,
    build_model,
    checkpoint_file,
    cluster_fields,
    create_fabric,
    find_dataset,
    identity_stage,
    read_benchmark,
    read_dataset,
    train,
)
from reidkit.runs import EpochRecord, RunConfig, RunFolder
from reidkit.uda.joint import joint_stage

__all__ = ["train_uda", "uda_stages"]


def train_uda(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress = SILENT,
    resume: bool = False,
) -> list[EpochRecord]:
    """Train on the labelled images of `config.data.source`, then on the unlabelled ones of `config.data.target`.

    Identities of the target's training images are never looked at. The target is evaluated throughout; before the
    target's first epoch and at the end the source is, too (`others` in the records).

    Args:
        config: All settings.
        run: Folder for checkpoints, metrics and labels.
        data_root: Folder of the data sets; None is `REIDKIT_DATA` or `data`.
        progress: Shows what is done.
        resume: Continue from the run's last checkpoint.

    Returns:
        One record per epoch, from epoch 0 (before training).

    Raises:
        ReidkitError: Data, labels, weights, settings or the run folder are unusable.
    """
    _check(config)
    fabric = create_fabric(config.training.device, config.training.precision)
    source = find_dataset(config.data.source, config, data_root, progress)
    target = find_dataset(config.data.target, config, data_root, progress)
    if source.root.resolve() == target.root.resolve():
        raise ConfigError(f"source and target are the same images ({source.root}); name two data sets, or use usl")
    model = build_model(config.backbone, config.seed)
    if config.uda.source_checkpoint:
        load_weights(model, checkpoint_file(Path(config.uda.source_checkpoint)))
        model.reset_neck()
    trainer = Trainer(fabric, model, config, progress)
    known, images = (read_dataset(dataset, "train", config, progress) for dataset in (source, target))
    ranked, others = (read_benchmark(dataset, config, progress) for dataset in (target, source))
    benchmark = Benchmark(ranked, {} if others is None else {source.name: others})
    return train(trainer, uda_stages(known, images, trainer), benchmark, run, resume=resume)


def uda_stages(source: ImageSet, target: ImageSet, trainer: Trainer) -> list[Stage]:
    """Create the stage on the source, if it has epochs, then the one on the target, or on both.

    Args:
        source: Labelled training images.
        target: Training images whose identities are not looked at.
        trainer: Model, device and settings.
    """
    config, fields = trainer.config, cluster_fields(trainer)
    joint, last = config.uda.strategy == "joint", config.supervised.epochs
    source_first = bool(last and not config.uda.source_checkpoint)
    learn = [identity_stage(source, trainer, last_epoch=last)] if source_first else []
    if joint:
        return [*learn, joint_stage(source, target, fields)]
    neck = EmbeddingModel.reset_neck if source_first else None
    return [*learn, ClusterStage(images=target, prepare=neck, **fields)]


def _check(config: RunConfig) -> None:
    """Refuse settings that do not fit together."""
    if not config.data.source:
        raise ConfigError("data.source is empty: UDA needs a labelled source; name one with --source")
    if config.data.source == config.data.target:
        raise ConfigError(
            f"source and target are both {config.data.target!r}; name two data sets, or train without labels: usl"
        )
    staged = config.supervised.epochs if not config.uda.source_checkpoint else 0
    if staged >= config.training.epochs:
        raise ConfigError(
            f"supervised.epochs={staged} leaves none of training.epochs={config.training.epochs} for the target; "
            "raise --epochs, or lower supervised.epochs by --set"
        )
