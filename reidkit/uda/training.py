"""UDA: supervised epochs on a source, then the alternation on a target (TransReID-SSL, section 5.1), or on both."""

from dataclasses import replace
from pathlib import Path

import torch

from reidkit.backbones import EmbeddingModel, load_weights
from reidkit.errors import ConfigError
from reidkit.loop import (
    Benchmark,
    ImageSet,
    Progress,
    Stage,
    alternate,
    build_model,
    checkpoint_file,
    cluster_stage,
    create_fabric,
    find_dataset,
    identity_stage,
    read_benchmark,
    read_dataset,
)
from reidkit.runs import Record, RunConfig, RunFolder
from reidkit.uda.joint import joint_stage

__all__ = ["train_uda", "uda_stages"]


def train_uda(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> list[Record]:
    """Train on the labelled images of `config.data.source`, then on the unlabelled ones of `config.data.target`.

    Identities of the target's training images are never looked at. The target is evaluated throughout; before the
    target's first epoch and at the end the source is, too (`others` in the records).

    Args:
        config: All settings.
        run: Where everything is written.
        data_root: Where data sets lie; None is `REIDKIT_DATA` or `data`.
        progress: Told of everything that happens.
        resume: Go on from the run's last checkpoint, in either stage.

    Returns:
        One record per epoch, from epoch 0 (before training).

    Raises:
        ReidkitError: Data, labels, weights, settings or the run folder are unusable.
    """
    progress = progress or Progress()
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
    known, train = (read_dataset(dataset, "train", config, progress) for dataset in (source, target))
    ranked, others = (read_benchmark(dataset, config, progress) for dataset in (target, source))
    stages = uda_stages(known, train, config, model.feature_dim, fabric.device)
    benchmark = Benchmark(ranked, {} if others is None else {source.name: others})
    return alternate(fabric, model, stages, benchmark, run, config, progress, resume=resume)


def uda_stages(
    source: ImageSet, target: ImageSet, config: RunConfig, feature_dim: int, device: torch.device
) -> list[Stage]:
    """The epochs on the source, if there are any, then those on the target, or on both.

    Args:
        source: Labelled training images.
        target: Training images whose identities are not looked at.
        config: All settings.
        feature_dim: Size D of the features.
        device: Where memory banks lie.
    """
    joint = config.uda.strategy == "joint"
    adaptation = joint_stage(source, target, config, device) if joint else cluster_stage(target, config, device)
    if not config.supervised.epochs or config.uda.source_checkpoint:
        return [adaptation]
    last = config.supervised.epochs
    learn = identity_stage(source, config, last_epoch=last, feature_dim=feature_dim, device=device)
    return [learn, adaptation if adaptation.prepare else replace(adaptation, prepare=EmbeddingModel.reset_neck)]


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
