"""The alternation: features -> labels -> memory -> training -> evaluation, epoch after epoch."""

import functools
import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel, source_statistics
from reidkit.clustering import clustering_record
from reidkit.datasets import augment, sample_batches
from reidkit.loop.config import RunConfig
from reidkit.loop.device import place
from reidkit.loop.epoch import Criterion, EpochResult, train_epoch
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet
from reidkit.loop.optimisation import create_optimizer, learning_rate, set_learning_rate
from reidkit.loop.progress import Progress
from reidkit.loop.pseudo_labels import EpochLabels, Features
from reidkit.loop.run_folder import Record, RunFolder
from reidkit.loop.scoring import evaluate_model
from reidkit.loop.stages import Stage

__all__ = ["Benchmark", "alternate"]

logger = logging.getLogger(__name__)

_VIEWS = 2  # of an image that is a class of its own, differently augmented, as in SimCLR (arXiv 2002.05709)


class Benchmark(NamedTuple):
    """What a run is evaluated on."""

    ranked: tuple[ImageSet, ImageSet] | None
    """Query and gallery of every evaluation; None: nothing is evaluated."""
    others: Mapping[str, tuple[ImageSet, ImageSet]] = {}
    """Query and gallery of other data sets by name, evaluated at the end of each stage with a successor of its own
    optimiser, and of the run: what UDA forgets of its source."""


class _Machinery(NamedTuple):
    """What every epoch works with."""

    fabric: Fabric
    model: EmbeddingModel
    network: nn.Module
    """What is trained: the model, set up by Fabric, unless the stage has a network of its own."""
    heads: nn.ModuleList
    optimizer: Optimizer
    """That of the stage at hand."""
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
        benchmark: What is evaluated on.
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
    heads = nn.ModuleList(stage.head for stage in stages if stage.head is not None)
    place(fabric, heads)
    checkpoint = run.load_checkpoint() if resume else None
    history: list[Record] = [] if checkpoint is None else checkpoint["history"]
    stage = stages[_stage_of(stages, max(1, len(history) - 1))]
    if checkpoint is not None and len(history) > 1 and stage.prepare is not None:
        stage.prepare(model)  # gives it the parts whose state is about to be loaded
    optimizer = create_optimizer(nn.ModuleList([model, heads]), stage.learning.optimizer)
    network, optimizer = fabric.setup(stage.network or model, optimizer)
    machinery = _Machinery(fabric, model, network, heads, optimizer, benchmark, config, progress)
    if checkpoint is not None:
        _restore(machinery, checkpoint)
    run.restore_history(history)
    progress.start_run(len(history), config.training.epochs)
    for epoch in range(len(history), config.training.epochs + 1):
        index = _stage_of(stages, max(1, epoch))
        stage, before = stages[index], stages[index - 1].last_epoch if index else 0
        closing = epoch == _last_of(stages, index, config)
        if epoch == 0:
            history.append(_first_evaluation(machinery, stage))
        else:
            if epoch == before + 1 and stage.prepare is not None:
                machinery = _prepared(machinery, stage)
            record, labels = _run_epoch(machinery, run, stage, epoch, before, evaluated=closing)
            if record["labels"] == "clusters":
                record["quality"] = _quality(run, stage, labels, history[-1])
            if closing and benchmark.others:
                record["others"] = _evaluate_others(machinery)
            history.append(record)
            if stage.network is None:
                shown = labels.found or labels
                run.save_labels(epoch, shown.labels, stage.train.split.paths[stage.source_images :])
        _save(run, machinery, history, adapting=closing and 0 < epoch < config.training.epochs)
        run.append(history[-1])
        progress.end_epoch(history[-1])
    run.close()
    return history


def _stage_of(stages: Sequence[Stage], epoch: int) -> int:
    """Index of the stage that an epoch, counted from 1, belongs to; the last one goes on for ever."""
    return next((index for index, stage in enumerate(stages) if epoch <= stage.last_epoch), len(stages) - 1)


def _last_of(stages: Sequence[Stage], index: int, config: RunConfig) -> int:
    """The last epoch before another stage begins anew, or the run ends."""
    for stage, following in itertools.pairwise(stages[index:]):
        if following.prepare is not None:
            return stage.last_epoch
    return config.training.epochs


def _prepared(machinery: _Machinery, stage: Stage) -> _Machinery:
    """The machinery for a stage that begins anew: the model made ready, and a new optimiser."""
    model = machinery.model
    if stage.prepare is not None:
        stage.prepare(model)
    optimizer = create_optimizer(nn.ModuleList([model, machinery.heads]), stage.learning.optimizer)
    ready: Any = machinery.fabric.setup_optimizers(optimizer)
    return machinery._replace(optimizer=ready)


def _first_evaluation(machinery: _Machinery, stage: Stage) -> Record:
    seconds: dict[str, float] = {}
    machinery.model.retrieval = stage.retrieval
    with _timed(seconds, "evaluate"):
        scores = _evaluate(machinery)
    return {"epoch": 0, **scores, "seconds": seconds}


def _run_epoch(
    machinery: _Machinery, run: RunFolder, stage: Stage, epoch: int, before: int, *, evaluated: bool
) -> tuple[Record, EpochLabels]:
    """One round of the alternation: the figure of the paper, from top to bottom.

    Args:
        machinery: What it works with.
        run: Where the features of the last epoch are written.
        stage: The stage that the epoch belongs to.
        epoch: Its number, counted from 1 over all stages.
        before: The last epoch of the stage before, or 0: every stage has the whole schedule of the learning rate.
        evaluated: Evaluate after it, whatever its number.
    """
    config, learning = machinery.config, stage.learning
    seconds: dict[str, float] = {}
    machinery.model.retrieval = stage.retrieval
    torch.manual_seed(_epoch_seed(config.seed, epoch))
    last = min(stage.last_epoch, config.training.epochs)
    rate = learning_rate(epoch - before, last - before, learning.optimizer.learning_rate, learning.schedule)
    set_learning_rate(machinery.optimizer, rate)

    @functools.cache  # labels and criterion share one extraction; an epoch that needs none pays for none
    def features() -> Features:
        with _timed(seconds, "extract"):
            return _extract(machinery, stage)

    with _timed(seconds, "label"):
        labels = stage.label(features, epoch)
        criterion = stage.criterion(features, labels)
    seconds["label"] = round(seconds["label"] - seconds.get("extract", 0), 3)
    if epoch == config.training.epochs and features.cache_info().currsize:
        run.save_features(features()[stage.source_images :], stage.train.split.since(stage.source_images))
    with _timed(seconds, "train"):
        result = _train(machinery, stage, criterion, labels, epoch)
    scores: dict[str, float] = {}
    if epoch % config.evaluation.every == 0 or evaluated:
        with _timed(seconds, "evaluate"):
            scores = _evaluate(machinery)

    shown = labels.found or labels
    record = {
        "epoch": epoch,
        "labels": shown.kind,
        "clusters": shown.clusters,
        "noise": shown.noise / len(shown.labels),
        "loss": result.loss,
        "learning_rate": rate if stage.steering is None else machinery.optimizer.param_groups[0]["lr"],
        "skipped": result.skipped,
        "images": result.images,
        **stage.figures(),
        **scores,
        "seconds": seconds,
    }
    return record, labels


def _extract(machinery: _Machinery, stage: Stage) -> Features:
    """Features (N, D) of the stage's images."""
    fabric, model, config, progress = machinery.fabric, machinery.model, machinery.config, machinery.progress
    source = stage.source_images
    if not source:
        return extract(fabric, model, stage.train, config, progress)
    with source_statistics(model):
        first = extract(fabric, model, stage.train, config, progress, rows=slice(source))
    rest = extract(fabric, model, stage.train, config, progress, rows=slice(source, None))
    return np.concatenate([first, rest])


def _quality(run: RunFolder, stage: Stage, labels: EpochLabels, last: Record) -> dict[str, float]:
    """Figures of a clustering, held against that of the last epoch, which a resumed run finds in its folder."""
    previous = run.load_labels(last["epoch"]) if last.get("labels") == "clusters" else None
    found, cameras = labels.found or labels, stage.train.split.cameras[stage.source_images :]
    return clustering_record(found.labels, graph=found.graph, previous=previous, cameras=cameras)


def _train(machinery: _Machinery, stage: Stage, criterion: Criterion, labels: EpochLabels, epoch: int) -> EpochResult:
    config, learning = machinery.config, stage.learning
    # One stream per purpose: drawing more of one never shifts the other.
    sampling, augmenting = (np.random.default_rng(stream) for stream in _streams(config.seed, epoch))

    def transform(pixels: Tensor) -> Any:
        if stage.views is not None:
            return stage.views(pixels, augmenting)
        return augment(pixels, augmenting, learning.augmentation, mean=config.data.mean, std=config.data.std)

    return train_epoch(
        machinery.fabric,
        machinery.network,
        criterion,
        machinery.optimizer,
        _batches(stage, labels, epoch, sampling),
        images=stage.train,
        labels=labels.labels,
        augment=transform,
        skip_limit=config.training.skip_limit,
        steps=learning.iterations,
        progress=machinery.progress,
        steering=stage.steering(epoch) if stage.steering is not None else None,
        parts=learning.parts,
    )


def _batches(stage: Stage, labels: EpochLabels, epoch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """P x K batches of the stage's images, of two halves where it has a source."""
    learning, source = stage.learning, stage.source_images
    # An image that is a class of its own is contrasted with itself, unless the stage makes its views itself.
    alone = labels.kind == "instances" and stage.views is None
    instances = _VIEWS if alone else learning.instances
    halves = [slice(0, source), slice(source, None)] if source else [slice(None)]
    wanted = max(1, learning.batch_size // instances // len(halves))
    clusters = min(len(np.unique(part[part >= 0])) for part in (labels.labels[half] for half in halves))
    if clusters < wanted:
        logger.warning(
            "epoch %d: %d clusters are fewer than the %d of a batch: batches have %d images instead of %d",
            epoch,
            clusters,
            wanted,
            clusters * instances * len(halves),
            learning.batch_size,
        )
    drawn = (
        sample_batches(
            labels.labels[half],
            stage.train.split.cameras[half],
            clusters_per_batch=min(wanted, max(1, clusters)),
            instances=instances,
            batches=learning.iterations,
            rng=stream,
        )
        for half, stream in zip(halves, rng.spawn(2) if source else [rng], strict=True)
    )
    for parts in zip(*drawn, strict=True):
        yield np.concatenate([part + (half.start or 0) for half, part in zip(halves, parts, strict=True)])


def _evaluate(machinery: _Machinery) -> dict[str, float]:
    """Scores, or none where there is no query or gallery."""
    ranked = machinery.benchmark.ranked
    if ranked is None:
        return {}
    return evaluate_model(machinery.fabric, machinery.model, *ranked, machinery.config, machinery.progress)


def _evaluate_others(machinery: _Machinery) -> dict[str, dict[str, float]]:
    fabric, model, config, progress = machinery.fabric, machinery.model, machinery.config, machinery.progress
    return {
        name: evaluate_model(fabric, model, query, gallery, config, progress)
        for name, (query, gallery) in machinery.benchmark.others.items()
    }


def _save(run: RunFolder, machinery: _Machinery, history: list[Record], *, adapting: bool) -> None:
    """Write last.pt, best.pt after the best evaluation so far, and source.pt before a stage begins anew."""
    config = machinery.config.model_dump_json()
    retrieval = machinery.model.retrieval
    model = {"model": machinery.model.state_dict(), "retrieval": retrieval, "config": config, "history": history}
    learning = {"heads": machinery.heads.state_dict(), "optimizer": machinery.optimizer.state_dict()}
    run.save_checkpoint("last", {**model, **learning})
    if adapting:
        run.save_checkpoint("source", model)
    scores = [record["mAP"] for record in history if "mAP" in record]
    if "mAP" in history[-1] and history[-1]["mAP"] == max(scores):
        run.save_checkpoint("best", model)


def _restore(machinery: _Machinery, checkpoint: dict[str, Any]) -> None:
    machinery.model.load_state_dict(checkpoint["model"])
    machinery.heads.load_state_dict(checkpoint["heads"])
    machinery.optimizer.load_state_dict(checkpoint["optimizer"])


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
