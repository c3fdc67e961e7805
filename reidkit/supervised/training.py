"""Supervised training: the loop with ground truth as labels, ID and triplet loss as criterion (TransReID-SSL, 5.1)."""

from pathlib import Path

from reidkit.loop import (
    SILENT,
    Benchmark,
    Progress,
    Trainer,
    build_model,
    create_fabric,
    find_dataset,
    identity_stage,
    read_benchmark,
    read_dataset,
    train,
)
from reidkit.runs import EpochRecord, RunConfig, RunFolder

__all__ = ["train_supervised"]


def train_supervised(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress = SILENT,
    resume: bool = False,
) -> list[EpochRecord]:
    """Train on the identities of the training images of `config.data.target`.

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
    fabric = create_fabric(config.training.device, config.training.precision)
    dataset = find_dataset(config.data.target, config, data_root, progress)
    trainer = Trainer(fabric, build_model(config.backbone, config.seed), config, progress)
    images = read_dataset(dataset, "train", config, progress)
    benchmark = Benchmark(read_benchmark(dataset, config, progress))
    stage = identity_stage(images, trainer, last_epoch=config.training.epochs)
    return train(trainer, [stage], benchmark, run, resume=resume)
