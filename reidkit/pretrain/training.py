"""Pre-training: the loop with every image as its own teacher (DINO; TransReID-SSL, section 3.2)."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import CropConfig, apply_crops, draw_crops
from reidkit.errors import ConfigError
from reidkit.loop import (
    SILENT,
    Augment,
    Benchmark,
    Criterion,
    EpochLabels,
    Features,
    ImageSet,
    Learning,
    Progress,
    Stage,
    StepHook,
    Trainer,
    build_model,
    create_fabric,
    find_dataset,
    instances,
    join_images,
    read_benchmark,
    read_split,
    train,
)
from reidkit.pretrain.distillation import Distillation, Rates, StudentAndTeacher
from reidkit.pretrain.lists import apply_list, read_list
from reidkit.runs import EpochRecord, OptimizerConfig, RunConfig, RunFolder

__all__ = ["pretrain_stage", "train_pretrain"]


def train_pretrain(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress = SILENT,
    resume: bool = False,
) -> list[EpochRecord]:
    """Train on the images of `config.data.target` without labels, from random weights or those that the settings name.

    The teacher is saved: `--pretrained` takes it from the run's checkpoints.

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
    student = build_model(config.backbone, config.seed)
    teacher = build_model(config.backbone.model_copy(update={"drop_path": 0.0, "pretrained": ""}), config.seed)
    images, benchmark = _read_data(config, data_root, progress)
    trainer = Trainer(fabric, teacher, config, progress)
    return train(trainer, [pretrain_stage(images, trainer, student)], benchmark, run, resume=resume)


def _read_data(config: RunConfig, data_root: Path | None, progress: Progress) -> tuple[ImageSet, Benchmark]:
    """Read the images to train on, and the benchmark of the teacher.

    The images are those of the target and of further data sets, or those of them that a list names.

    Raises:
        ReidkitError: Data or list are unusable.
    """
    listed = read_list(Path(config.pretrain.list)) if config.pretrain.list else None  # finding data takes longer
    names = (config.data.target, *config.pretrain.more)
    probe = config.pretrain.probe or config.data.target
    found = {name: find_dataset(name, config, data_root, progress) for name in dict.fromkeys((*names, probe))}
    parts = []
    for dataset in map(found.__getitem__, names):
        split = dataset.train if listed is None else apply_list(dataset.train, dataset.root, listed)
        parts.append(
            read_split(
                split,
                f"{dataset.name} train",
                config.crops.sizes(*config.backbone.image_size)[0],
                strict=config.data.strict,
                progress=progress,
                store_gib=config.data.store_gib,
            )
        )
    return functools.reduce(join_images, parts), Benchmark(read_benchmark(found[probe], config, progress))


@dataclass(frozen=True, kw_only=True)
class PretrainStage(Stage):
    """Self-distillation of every image (DINO): the head is student and teacher, the model is the teacher."""

    distillation: Distillation
    crops: CropConfig

    @property
    def network(self) -> StudentAndTeacher:
        """Student and teacher."""
        return self.distillation.pair

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Number the images; nothing is learned from the numbers."""
        return instances(len(self.images.split))

    def criterion(
        self, features: Features | None, labels: EpochLabels, state: Mapping[str, Any] | None = None
    ) -> Criterion:
        """Return the distillation loss."""
        return self.distillation

    def batches(self, labels: EpochLabels, number: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Draw every image once before any twice."""
        return self.draw_batches([(labels.labels, self.images.split.cameras)], 1, number, [rng])

    def augment(self, count: int, rng: np.random.Generator) -> Augment:
        """Draw the global and local crops of a batch."""
        size = (self.images.pixels.shape[2], self.images.pixels.shape[3])
        large, small = draw_crops(count, size, rng, self.crops)
        colours = {"mean": self.learning.mean, "std": self.learning.std}
        return lambda pixels, rows: (
            apply_crops(pixels, large.of(rows), **colours),
            apply_crops(pixels, small.of(rows), **colours),
        )

    def step_hook(self, number: int) -> StepHook:
        """Set the rates of every step, clip gradients, freeze the last layer at first."""
        return self.distillation.of_epoch(number)

    def metrics(self) -> dict[str, float]:
        """Measure signs of collapse."""
        return self.distillation.metrics()


def pretrain_stage(images: ImageSet, trainer: Trainer, student: EmbeddingModel) -> PretrainStage:
    """Create the only stage of a pre-training.

    Args:
        images: N images; nothing but their pixels is looked at.
        trainer: Its model is the teacher.
        student: The model that learns.

    Raises:
        ConfigError: A batch has more images than there are, or does not divide into its parts.
    """
    config = trainer.config
    settings, batch_size, count = config.pretrain, config.sampler.batch_size, len(images.split)
    if batch_size > count:
        raise ConfigError(
            f"sampler.batch_size={batch_size:,} is more than the {count:,} images; lower --batch-size or add images"
        )
    if batch_size % settings.parts:
        raise ConfigError(
            f"sampler.batch_size={batch_size} is not a multiple of pretrain.parts={settings.parts}; change one of them"
        )
    iterations = settings.iterations or count // batch_size
    rates = Rates(settings, epochs=config.training.epochs, iterations=iterations, batch_size=batch_size)
    pair = StudentAndTeacher(student, trainer.model, settings)
    optimizer = OptimizerConfig(
        name="adamw",
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay_biases=False,
    )
    learning = replace(
        Learning.of(config),
        iterations=iterations,
        instances=1,
        optimizer=optimizer,
        accumulation_steps=settings.parts,
    )
    return PretrainStage(
        last_epoch=config.training.epochs,
        images=images,
        learning=learning,
        head=pair,
        retrieval="after_neck" if settings.neck else "before_neck",
        distillation=Distillation(pair, rates, settings, iterations, trainer.group),
        crops=config.crops,
    )
