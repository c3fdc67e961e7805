"""One round of the alternation, from features to trained weights: what every epoch of every mode does."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel, source_statistics
from reidkit.clustering import clustering_record
from reidkit.datasets import apply_augmentation, draw_augmentation, sample_batches
from reidkit.distributed import ProcessGroup
from reidkit.errors import TrainingError
from reidkit.loop.epoch import Criterion, EpochResult, NotFiniteError, Steering, train_epoch
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet
from reidkit.loop.labels import EpochLabels, Features, watch_noise
from reidkit.loop.optimisation import learning_rate, set_learning_rate
from reidkit.loop.progress import Progress
from reidkit.loop.randomness import continue_draws, draws_so_far, start_draws, streams
from reidkit.loop.stages import Stage
from reidkit.runs import Record, RunConfig, RunFolder

__all__ = [
    "Benchmark",
    "Machinery",
    "Round",
    "begin_round",
    "continue_round",
    "enough_memory",
    "extraction_need",
    "timed",
    "train_round",
]

logger = logging.getLogger(__name__)

_VIEWS = 2  # of an image that is a class of its own, differently augmented, as in SimCLR (arXiv 2002.05709)


class Benchmark(NamedTuple):
    """What a run is evaluated on."""

    ranked: tuple[ImageSet, ImageSet] | None
    """Query and gallery of every evaluation; None: nothing is evaluated."""
    others: Mapping[str, tuple[ImageSet, ImageSet]] = {}
    """Query and gallery of other data sets by name, evaluated at the end of each stage with a successor of its own
    optimiser, and of the run: what UDA forgets of its source."""


class Machinery(NamedTuple):
    """What every epoch works with."""

    fabric: Fabric
    team: ProcessGroup
    model: EmbeddingModel
    network: _FabricModule
    """What is trained: the model, set up by Fabric, unless the stage has a network of its own."""
    heads: nn.ModuleList
    optimizer: Optimizer
    """That of the stage at hand."""
    benchmark: Benchmark
    config: RunConfig
    progress: Progress


class Round(NamedTuple):
    """An epoch whose labels stand; with `EpochResult` and the weights, all that is needed to go on inside it."""

    epoch: int
    """Counted from 1 over all stages."""
    labels: EpochLabels
    criterion: Criterion
    record: Record
    """What is known of it so far; its seconds still grow."""
    augmenting: np.random.Generator
    steering: Steering | None

    def state(self, result: EpochResult, team: ProcessGroup, device: torch.device) -> dict[str, Any]:
        """Tensors and plain values that `continue_round` reads; collective: each process draws its own drop path."""
        found = self.labels.found
        return {
            "epoch": self.epoch,
            "labels": torch.from_numpy(self.labels.labels),
            "kind": self.labels.kind,
            "found": None if found is None else torch.from_numpy(found.labels),
            "criterion": self.criterion.state_dict(),
            "record": self.record,
            "result": list(result),
            "augmenting": self.augmenting.bit_generator.state,
            **draws_so_far(team, device),
        }


def begin_round(machinery: Machinery, run: RunFolder, stage: Stage, epoch: int, before: int, last: Record) -> Round:
    """Features, labels and what the epoch is trained by: the upper half of the figure of the paper.

    Args:
        machinery: What it works with.
        run: Where the features of the last epoch are written.
        stage: The stage that the epoch belongs to.
        epoch: Its number, counted from 1 over all stages.
        before: The last epoch of the stage before, or 0: every stage has the whole schedule of the learning rate.
        last: The record of the epoch before.
    """
    config, learning, team = machinery.config, stage.learning, machinery.team
    seconds: dict[str, float] = {}
    machinery.model.retrieval = stage.retrieval
    start_draws(config.seed, epoch, team)
    ending = min(stage.last_epoch, config.training.epochs)
    rate = learning_rate(epoch - before, ending - before, learning.optimizer.learning_rate, learning.schedule)
    set_learning_rate(machinery.optimizer, rate)

    @functools.cache  # labels and criterion share one extraction; an epoch that needs none pays for none
    def features() -> Features:
        with timed(seconds, "extract"):
            return _extract(machinery, stage)

    with timed(seconds, "label"):
        labels = _label(machinery, stage, features, epoch)
        criterion = stage.criterion(features, labels)
    seconds["label"] = round(seconds["label"] - seconds.get("extract", 0), 3)
    if epoch == config.training.epochs and features.cache_info().currsize and team.is_main:
        run.save_features(features()[stage.source_images :], stage.train.split.since(stage.source_images))
    shown = labels.found or labels
    record: Record = {
        "epoch": epoch,
        "labels": shown.kind,
        "clusters": shown.clusters,
        "noise": shown.noise / len(shown.labels),
        "learning_rate": rate,
        "seconds": seconds,
    }
    if team.is_main:
        watch_noise(
            shown, epoch, config.clustering, before=last.get("noise") if last.get("labels") == "clusters" else None
        )
    if shown.kind == "clusters" and team.is_main:
        record["quality"] = _quality(run, stage, shown, last)
    augmenting = np.random.default_rng(streams(config.seed, epoch)[1])
    return Round(epoch, labels, criterion, record, augmenting, _steering(stage, epoch))


def continue_round(machinery: Machinery, stage: Stage, state: Mapping[str, Any]) -> tuple[Round, EpochResult]:
    """The epoch that was interrupted, and what is behind of it.

    Args:
        machinery: With the weights and the optimiser of that moment.
        stage: The stage that the epoch belongs to.
        state: From `Round.state`.
    """
    machinery.model.retrieval = stage.retrieval
    found = None if state["found"] is None else EpochLabels(state["found"].numpy(), "clusters")
    labels = EpochLabels(state["labels"].numpy(), state["kind"], found=found)
    # The criterion's own state follows: what it would be built from is gone.
    shape = (len(stage.train.split), machinery.model.feature_dim)
    criterion = stage.criterion(lambda: np.zeros(shape, dtype=np.float32), labels)
    steering = _steering(stage, state["epoch"])  # it forgets the epoch before, and what is loaded next must stay
    criterion.load_state_dict(state["criterion"])
    augmenting = np.random.default_rng()
    augmenting.bit_generator.state = state["augmenting"]
    continue_draws(state, machinery.config.seed, state["epoch"], machinery.team, machinery.fabric.device)
    result = EpochResult(*state["result"])
    return Round(state["epoch"], labels, criterion, dict(state["record"]), augmenting, steering), result


def train_round(
    machinery: Machinery,
    run: RunFolder,
    stage: Stage,
    current: Round,
    start: EpochResult,
    after_step: Callable[[EpochResult], None],
) -> EpochResult:
    """Train to the end of the epoch: the lower half of the figure.

    Args:
        machinery: What it works with.
        run: Where the batch is written that was one too many without a finite loss.
        stage: The stage that the epoch belongs to.
        current: The epoch.
        start: What is behind of it.
        after_step: Told of what is behind after every step.

    Raises:
        TrainingError: Loss or gradient were not finite too often, or the device has too little memory.
    """
    config, learning, history = machinery.config, stage.learning, [start]
    changing = nn.ModuleList([machinery.model, machinery.heads])  # the network is one of them, a teacher the other
    size = (stage.train.pixels.shape[2], stage.train.pixels.shape[3])

    def views(count: int) -> Callable[[Tensor, NDArray[np.int64]], Any]:
        if stage.views is not None:
            return stage.views(count, size, current.augmenting)
        drawn = draw_augmentation(count, size, current.augmenting, learning.augmentation)
        whole = np.arange(count)

        def show(pixels: Tensor, rows: NDArray[np.int64]) -> Tensor:
            part = drawn if np.array_equal(rows, whole) else drawn.of(rows)
            return apply_augmentation(pixels, part, learning.augmentation, mean=config.data.mean, std=config.data.std)

        return show

    seconds, began = current.record["seconds"], time.perf_counter()
    behind = seconds.setdefault("train", 0.0)

    def keep(result: EpochResult) -> None:
        seconds["train"] = round(behind + time.perf_counter() - began, 3)  # saved with a step, if it is
        history.append(result)
        after_step(result)

    with enough_memory(*_need(config, stage, current)):
        try:
            return train_epoch(
                machinery.fabric,
                machinery.network,
                current.criterion,
                machinery.optimizer,
                _batches(stage, current, config.seed),
                images=stage.train,
                labels=current.labels.labels,
                views=views,
                skip_limit=config.training.skip_limit,
                steps=learning.iterations,
                progress=machinery.progress,
                steering=current.steering,
                parts=learning.parts,
                halves=bool(stage.source_images),
                gathered=stage.network is None,
                kept=list(changing.buffers()),
                start=start,
                after_step=keep,
            )
        except NotFiniteError as error:
            raise TrainingError(f"{error}. {_save_bad_batch(machinery, run, stage, current, history)}") from error


@contextmanager
def enough_memory(work: str, remedy: str) -> Iterator[None]:
    """Say for what a GPU has too little memory, and what would fit.

    Args:
        work: What is done, with the size of its batches.
        remedy: What to change.

    Raises:
        TrainingError: The memory is exhausted.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"the GPU's memory is too small for {work} ({reason}); {remedy}") from error


def extraction_need(config: RunConfig) -> tuple[str, str]:
    """What `enough_memory` is to tell of feature extraction."""
    size = config.evaluation.batch_size
    remedy = f"go on with --resume --set evaluation.batch_size={max(1, size // 2)}, which changes no result"
    return f"features of {size:,} images at a time", remedy


def _need(config: RunConfig, stage: Stage, current: Round) -> tuple[str, str]:
    """What it is to tell of training."""
    learning = stage.learning
    size, instances = learning.batch_size, learning.instances
    section = "supervised" if current.labels.kind == "identities" and config.mode != "usl" else "sampler"
    remedy = f"start a new run with --set {section}.batch_size={max(1, size // 2 // instances) * instances}"
    if config.mode == "pretrain":
        remedy += f", or with the same batches in smaller parts: --set pretrain.parts={2 * learning.parts}"
    return f"training on batches of {size:,} images", remedy


def _save_bad_batch(
    machinery: Machinery, run: RunFolder, stage: Stage, current: Round, history: list[EpochResult]
) -> str:
    """Write the batch after the last step of `history` to the run folder; returns what to tell of it."""
    batches = _batches(stage, current, machinery.config.seed)
    indices = next(islice(batches, history[-1].done, None))
    taken = [
        after.loss - before.loss if after.steps > before.steps else math.nan for before, after in pairwise(history)
    ]
    split, labels = stage.train.split, current.labels.labels
    if machinery.team.is_main:
        run.save_bad_batch(indices, [split.paths[index] for index in indices], labels[indices], [*taken, math.nan])
    return f"The batch of that step, and the losses before it, are in {run.bad_batch}"


def _steering(stage: Stage, epoch: int) -> Steering | None:
    return None if stage.steering is None else stage.steering(epoch)


def _extract(machinery: Machinery, stage: Stage) -> Features:
    """Features (N, D) of the stage's images."""
    fabric, model, config, progress = machinery.fabric, machinery.model, machinery.config, machinery.progress
    source = stage.source_images
    with enough_memory(*extraction_need(config)):
        if not source:
            return extract(fabric, model, stage.train, config, progress)
        with source_statistics(model):
            first = extract(fabric, model, stage.train, config, progress, rows=slice(source))
        rest = extract(fabric, model, stage.train, config, progress, rows=slice(source, None))
    return np.concatenate([first, rest])


def _label(machinery: Machinery, stage: Stage, features: Callable[[], Features], epoch: int) -> EpochLabels:
    """Labels of an epoch: found by the process that leads, told to the others but for the graph."""
    team = machinery.team
    if team.size == 1:
        return stage.label(features, epoch)
    if not team.is_main:
        told = cast(EpochLabels | None, team.broadcast(None))
        if told is None:  # the labels hang on features: all take part in the extraction
            features()
            told = team.broadcast(told)
        return cast(EpochLabels, told)

    @functools.cache
    def wanted() -> Features:
        team.broadcast(None)
        return features()

    found = stage.label(wanted, epoch)
    team.broadcast(found._replace(graph=None, found=found.found and found.found._replace(graph=None)))
    return found


def _quality(run: RunFolder, stage: Stage, found: EpochLabels, last: Record) -> dict[str, float]:
    """Figures of a clustering, held against that of the last epoch, which a resumed run finds in its folder."""
    previous = run.load_labels(last["epoch"]) if last.get("labels") == "clusters" else None
    cameras = stage.train.split.cameras[stage.source_images :]
    return clustering_record(found.labels, graph=found.graph, previous=previous, cameras=cameras)


def _batches(stage: Stage, current: Round, seed: int) -> Iterator[NDArray[np.int64]]:
    """P x K batches of the stage's images, of two halves where it has a source; always the same of an epoch."""
    learning, source, epoch, labels = stage.learning, stage.source_images, current.epoch, current.labels
    rng = np.random.default_rng(streams(seed, epoch)[0])
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


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of a block to those of its name."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 3)
