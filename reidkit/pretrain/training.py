"""Pre-training: the loop with every image as its own teacher (DINO; TransReID-SSL, section 3.2)."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import apply_crops, draw_crops
from reidkit.distributed import ProcessGroup
from reidkit.errors import ConfigError
from reidkit.loop import (
    Benchmark,
    ImageSet,
    Learning,
    Progress,
    Stage,
    alternate,
    build_model,
    create_fabric,
    find_dataset,
    instances,
    join_images,
    read_benchmark,
    read_split,
)
from reidkit.pretrain.distillation import Distillation, Rates, StudentAndTeacher
from reidkit.pretrain.lists import apply_list, read_list
from reidkit.runs import OptimizerConfig, Record, RunConfig, RunFolder

__all__ = ["pretrain_stage", "train_pretrain"]


def train_pretrain(
    config: RunConfig,
    run: RunFolder,
    *,
    data_root: Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> list[Record]:
    """Train on the images of `config.data.target` without labels, from random weights or those that the settings name.

    What is kept is the teacher: checkpoints of the run give it to `--pretrained`.

    Args:
        config: All settings.
        run: Where everything is written.
        data_root: Where data sets lie; None is `REIDKIT_DATA` or `data`.
        progress: Told of everything that happens.
        resume: Go on from the run's last checkpoint.

    Returns:
        One record per epoch, from epoch 0 (before training).

    Raises:
        ReidkitError: Data, list, weights, settings or the run folder are unusable.
    """
    progress = progress or Progress()
    fabric = create_fabric(config.training.device, config.training.precision)
    student = build_model(config.backbone, config.seed)
    teacher = build_model(config.backbone.model_copy(update={"drop_path": 0.0, "pretrained": ""}), config.seed)
    images, benchmark = _read_data(config, data_root, progress)
    stage = pretrain_stage(images, config, student, teacher, ProcessGroup.of_fabric(fabric).all_reduce)
    return alternate(fabric, teacher, [stage], benchmark, run, config, progress, resume=resume)


def _read_data(config: RunConfig, data_root: Path | None, progress: Progress) -> tuple[ImageSet, Benchmark]:
    """What is trained on, and what the teacher is evaluated by.

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


def pretrain_stage(
    images: ImageSet,
    config: RunConfig,
    student: EmbeddingModel,
    teacher: EmbeddingModel,
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> Stage:
    """The only stage of a pre-training.

    Args:
        images: N images; nothing but their pixels is looked at.
        config: All settings.
        student: What learns.
        teacher: What follows it and is kept.
        total: The sum of a tensor over the processes of the run.

    Raises:
        ConfigError: A batch has more images than there are, or does not divide into its parts.
    """
    settings, batch_size = config.pretrain, config.sampler.batch_size
    count = len(images.split)
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
    pair = StudentAndTeacher(student, teacher, settings)
    distillation = Distillation(pair, rates, settings, iterations, total)
    every_image = instances(count)

    def views(
        size: int, shape: tuple[int, int], rng: np.random.Generator
    ) -> Callable[[Tensor, NDArray[np.int64]], tuple[Tensor, Tensor]]:
        large, small = draw_crops(size, shape, rng, config.crops)
        look = {"mean": config.data.mean, "std": config.data.std}
        return lambda pixels, rows: (
            apply_crops(pixels, large.of(rows), **look),
            apply_crops(pixels, small.of(rows), **look),
        )

    optimizer = OptimizerConfig(
        name="adamw",
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay_biases=False,
    )
    learning = Learning(
        iterations, batch_size, 1, optimizer, config.schedule, config.augmentation, parts=settings.parts
    )
    return Stage(
        config.training.epochs,
        images,
        label=lambda extract, epoch: every_image,
        criterion=lambda extract, labels: distillation,
        learning=learning,
        head=pair,
        retrieval="after_neck" if settings.neck else "before_neck",
        network=pair,
        views=views,
        steering=distillation.of_epoch,
        figures=distillation.figures,
    )
