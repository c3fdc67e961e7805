"""The alternation: features -> labels -> memory -> training -> evaluation, epoch after epoch."""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel
from reidkit.clustering import clustering_record
from reidkit.datasets import augment, sample_batches
from reidkit.loop.config import RunConfig
from reidkit.loop.device import place
from reidkit.loop.epoch import Criterion, EpochResult, train_epoch
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet
from reidkit.loop.optimisation import create_optimizer, learning_rate, set_learning_rate
from reidkit.loop.progress import Progress
from reidkit.loop.pseudo_labels import EpochLabels, Features, FeatureSource
from reidkit.loop.run_folder import Record, RunFolder
from reidkit.loop.scoring import evaluate_model

__all__ = ["Benchmark", "Stage", "alternate"]

logger = logging.getLogger(__name__)

_VIEWS = 2  # of an image that is a class of its own, differently augmented, as in SimCLR (arXiv 2002.05709)


@dataclass(frozen=True, slots=True)
class Stage:
    """Epochs that train on the same images by the same rule; what a mode gives to the loop."""

    last_epoch: int
    """The stage's last epoch, counted from 1 over all stages."""
    train: ImageSet
    label: Callable[[FeatureSource, int], EpochLabels]
    """Features at the start of an epoch, and the epoch -> labels of the training images."""
    criterion: Callable[[FeatureSource, EpochLabels], Criterion]
    """Features and labels at the start of an epoch -> what its batches are trained by."""
    head: nn.Module | None = None
    """What the criterion learns besides the model, such as a classifier."""


class Benchmark(NamedTuple):
    """What a run is evaluated on."""

    query: ImageSet
    gallery: ImageSet


class _Machinery(NamedTuple):
    """What every epoch works with."""

    fabric: Fabric
    model: EmbeddingModel
    trainable: nn.Module
    heads: nn.ModuleList
    optimizer: Optimizer
    benchmark: Benchmark
    config: RunConfig
    progress: Progress


def alternate(
    fabric: Fabric,
    model: EmbeddingModel,
    stages: Sequence[Stage],
    benchmark: Benchmark,
    run: RunFolder,
    config: RunConfig,
    progress: Progress,
    *,
    resume: bool = False,
) -> list[Record]:
    """Run the loop to its last epoch.

    All randomness of an epoch derives from (seed, epoch), so a run that is resumed after any epoch equals one that was
    never interrupted.

    Args:
        fabric: Device and precision.
        model: What is trained.
        stages: Images, labels and criteria of the mode, in the order of their epochs.
        benchmark: Query and gallery of the evaluations.
        run: Where everything is written.
        config: All settings.
        progress: Told of everything that happens.
        resume: Go on from the run's last checkpoint, if it has one.

    Returns:
        One record per epoch, the evaluation before training being epoch 0: the lines of metrics.jsonl.

    Raises:
        TrainingError: The loss was not finite too often.
        RunError: The run folder cannot be read or written.
    """
    place(fabric, model)
    heads = nn.ModuleList(stage.head for stage in stages if stage.head is not None).to(fabric.device)
    trainable, optimizer = fabric.setup(model, create_optimizer(nn.ModuleList([model, heads]), config.optimizer))
    machinery = _Machinery(fabric, model, trainable, heads, optimizer, benchmark, config, progress)
    checkpoint = run.load_checkpoint() if resume else None
    history: list[Record] = [] if checkpoint is None else _restore(machinery, checkpoint)
    run.restore_history(history)
    progress.start_run(len(history), config.training.epochs)
    for epoch in range(len(history), config.training.epochs + 1):
        if epoch == 0:
            history.append(_first_evaluation(machinery))
        else:
            index = next(index for index, stage in enumerate(stages) if epoch <= stage.last_epoch)
            stage, before = stages[index], stages[index - 1].last_epoch if index else 0
            record, labels = _run_epoch(machinery, stage, epoch, before)
            if labels.kind == "clusters":
                record["quality"] = _quality(run, stage, labels, history[-1])
            history.append(record)
            run.save_labels(epoch, labels.labels, stage.train.split.paths)
        _save(run, machinery, history)
        run.append(history[-1])
        progress.end_epoch(history[-1])
    run.close()
    return history


def _first_evaluation(machinery: _Machinery) -> Record:
    seconds: dict[str, float] = {}
    with _timed(seconds, "evaluate"):
        scores = _evaluate(machinery)
    return {"epoch": 0, **scores, "seconds": seconds}


def _run_epoch(machinery: _Machinery, stage: Stage, epoch: int, before: int) -> tuple[Record, EpochLabels]:
    """One round of the alternation: the figure of the paper, from top to bottom.

    Args:
        machinery: What it works with.
        stage: The stage that the epoch belongs to.
        epoch: Its number, counted from 1 over all stages.
        before: The last epoch of the stage before, or 0: every stage has the whole schedule of the learning rate.
    """
    fabric, model, config, progress = machinery.fabric, machinery.model, machinery.config, machinery.progress
    seconds: dict[str, float] = {}
    torch.manual_seed(_epoch_seed(config.seed, epoch))
    last = min(stage.last_epoch, config.training.epochs)
    rate = learning_rate(epoch - before, last - before, config.optimizer.learning_rate, config.schedule)
    set_learning_rate(machinery.optimizer, rate)

    @functools.cache  # labels and criterion share one extraction; an epoch that needs none pays for none
    def features() -> Features:
        with _timed(seconds, "extract"):
            return extract(fabric, model, stage.train.pixels, config, progress)

    with _timed(seconds, "label"):
        labels = stage.label(features, epoch)
        criterion = stage.criterion(features, labels)
    seconds["label"] = round(seconds["label"] - seconds.get("extract", 0), 3)
    with _timed(seconds, "train"):
        result = _train(machinery, stage, criterion, labels, epoch)
    scores: dict[str, float] = {}
    if epoch % config.evaluation.every == 0 or epoch == config.training.epochs:
        with _timed(seconds, "evaluate"):
            scores = _evaluate(machinery)

    record = {
        "epoch": epoch,
        "labels": labels.kind,
        "clusters": labels.clusters,
        "noise": labels.noise / len(labels.labels),
        "loss": result.loss,
        "learning_rate": rate,
        "skipped": result.skipped,
        "images": result.images,
        **scores,
        "seconds": seconds,
    }
    return record, labels


def _quality(run: RunFolder, stage: Stage, labels: EpochLabels, last: Record) -> dict[str, float]:
    """Figures of a clustering, held against that of the last epoch, which a resumed run finds in its folder."""
    previous = run.load_labels(last["epoch"]) if last.get("labels") == "clusters" else None
    return clustering_record(labels.labels, graph=labels.graph, previous=previous, cameras=stage.train.split.cameras)


def _train(machinery: _Machinery, stage: Stage, criterion: Criterion, labels: EpochLabels, epoch: int) -> EpochResult:
    config = machinery.config
    instances = {
        "clusters": config.sampler.instances,
        "identities": config.warmup.instances,
        "instances": _VIEWS,
    }[labels.kind]
    clusters_per_batch = max(1, config.sampler.batch_size // instances)
    if labels.clusters < clusters_per_batch:
        logger.warning(
            "epoch %d: %d clusters are fewer than the %d of a batch: batches have %d images instead of %d",
            epoch,
            labels.clusters,
            clusters_per_batch,
            labels.clusters * instances,
            config.sampler.batch_size,
        )
    # One stream per purpose: drawing more of one never shifts the other.
    sampling, augmenting = (np.random.default_rng(stream) for stream in _streams(config.seed, epoch))
    batches = sample_batches(
        labels.labels,
        stage.train.split.cameras,
        clusters_per_batch=clusters_per_batch,
        instances=instances,
        batches=config.training.iterations,
        rng=sampling,
    )

    def transform(pixels: Tensor) -> Tensor:
        return augment(pixels, augmenting, config.augmentation, mean=config.data.mean, std=config.data.std)

    return train_epoch(
        machinery.fabric,
        machinery.trainable,
        criterion,
        machinery.optimizer,
        batches,
        pixels=stage.train.pixels,
        labels=labels.labels,
        augment=transform,
        skip_limit=config.training.skip_limit,
        steps=config.training.iterations,
        progress=machinery.progress,
    )


def _evaluate(machinery: _Machinery) -> dict[str, float]:
    model, benchmark, config = machinery.model, machinery.benchmark, machinery.config
    return evaluate_model(machinery.fabric, model, *benchmark, config, machinery.progress)


def _save(run: RunFolder, machinery: _Machinery, history: list[Record]) -> None:
    """Write last.pt, and best.pt after the best evaluation so far."""
    config = machinery.config.model_dump_json()
    model = {"model": machinery.model.state_dict(), "config": config, "history": history}
    learning = {"heads": machinery.heads.state_dict(), "optimizer": machinery.optimizer.state_dict()}
    run.save_checkpoint("last", {**model, **learning})
    scores = [record["mAP"] for record in history if "mAP" in record]
    if "mAP" in history[-1] and history[-1]["mAP"] == max(scores):
        run.save_checkpoint("best", model)


def _restore(machinery: _Machinery, checkpoint: dict[str, Any]) -> list[Record]:
    machinery.model.load_state_dict(checkpoint["model"])
    machinery.heads.load_state_dict(checkpoint["heads"])
    machinery.optimizer.load_state_dict(checkpoint["optimizer"])
    history: list[Record] = checkpoint["history"]
    return history


def _streams(seed: int, epoch: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence([seed, epoch]).spawn(2)


def _epoch_seed(seed: int, epoch: int) -> int:
    """Seed of the model's own randomness (drop path) in an epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)
