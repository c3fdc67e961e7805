"""One epoch of training: the only place where weights change."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from reidkit.datasets import prefetch
from reidkit.errors import TrainingError
from reidkit.loop.batches import Batch, BatchReader
from reidkit.loop.criteria import Criterion
from reidkit.loop.evaluation import Benchmark, ModelScores
from reidkit.loop.labels import EpochLabels, Features
from reidkit.loop.optimisation import GradientScaling, StepHook
from reidkit.loop.randomness import continue_draws, draws_so_far, streams
from reidkit.loop.stages import Stage, StagePlan
from reidkit.loop.trainer import Trainer
from reidkit.runs import EpochRecord

__all__ = ["Epoch", "EpochProgress", "NotFiniteError", "train_epoch"]

logger = logging.getLogger(__name__)

_INPUTS = ("pixels", "cameras", "labels")


class NotFiniteError(TrainingError):
    """More steps than are allowed had a loss or a gradient that was not finite.

    Args:
        message: The step, and the remedy.
        batch: The last of these steps.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


class EpochProgress(NamedTuple):
    """Steps of an epoch so far."""

    loss: float = 0.0
    """Sum of the losses of the steps taken."""
    steps: int = 0
    """Steps taken."""
    skipped: int = 0
    """Steps left out because their loss or their gradient was not finite."""
    images: int = 0
    """Images seen."""

    @property
    def mean_loss(self) -> float:
        """Mean loss over the steps taken."""
        return self.loss / max(1, self.steps)

    @property
    def done(self) -> int:
        """Batches seen, taken or skipped."""
        return self.steps + self.skipped


class Epoch:
    """Labels, criterion and progress of one epoch; changes with every step.

    Args:
        number: Counted from 1 over all stages; 0 is the evaluation before training.
        stage: The stage that it belongs to.
        seed: Of the run.
    """

    labels: EpochLabels
    criterion: Criterion

    def __init__(self, number: int, stage: Stage, seed: int = 0) -> None:
        self.number, self.stage, self.seed = number, stage, seed
        self.progress = EpochProgress()
        self.losses: list[float] = []
        """Of the steps since the epoch was begun or resumed; NaN where it was not finite."""
        self.seconds: dict[str, float] = {}
        self.quality: dict[str, float] = {}
        self.augmentation = np.random.default_rng(streams(seed, number)[1])
        self.hook = StepHook()
        self._started = time.perf_counter()

    @property
    def found(self) -> EpochLabels:
        """The labels of the stage's target."""
        return self.labels.found or self.labels

    def extract(self, trainer: Trainer) -> Features:
        """Extract the features that the stage needs."""
        with self.timed("extract"):
            return self.stage.extract(trainer)

    def label(self, features: Features | None) -> None:
        """Label the images."""
        with self.timed("label"):
            self.labels = self.stage.label(features, self.number)

    def create_criterion(self, features: Features | None) -> None:
        """Create the loss of these labels, and the hook of the steps."""
        with self.timed("label"):
            self.criterion = self.stage.criterion(features, self.labels)
        self.hook = self.stage.step_hook(self.number)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to those of its name."""
        start, before = time.perf_counter(), self.seconds.get(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(before + time.perf_counter() - start, 3)

    def start_training(self) -> EpochProgress:
        """Start the clock of the steps; returns the progress so far."""
        self._started = time.perf_counter() - self.seconds.get("train", 0.0)
        return self.progress

    def count_step(self, loss: float, batch: Batch) -> None:
        """Count a step that was taken."""
        self._count(loss, batch, self.progress._replace(loss=self.progress.loss + loss, steps=self.progress.steps + 1))

    def skip_step(self, loss: float, batch: Batch, limit: int) -> None:
        """Count a step that was left out.

        Raises:
            NotFiniteError: As many as the limit were left out before.
        """
        step, skipped = self.progress.done + 1, self.progress.skipped
        wrong = f"the gradient of a loss of {loss:.4g} is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        if skipped >= limit:
            self.losses.append(math.nan)
            raise NotFiniteError(
                f"{wrong} at step {step}, after {skipped} skipped steps in this epoch (training.skip_limit={limit}); "
                "the last complete epoch is saved. Start again from it with a lower learning rate "
                "(--set optimizer.learning_rate=...) or with --precision 32",
                batch,
            )
        logger.warning("%s at step %d: this step is skipped", wrong, step)
        self._count(math.nan, batch, self.progress._replace(skipped=skipped + 1))

    def _count(self, loss: float, batch: Batch, progress: EpochProgress) -> None:
        self.losses.append(loss)
        self.progress = progress._replace(images=progress.images + batch.size)
        self.seconds["train"] = round(time.perf_counter() - self._started, 3)

    def state(self, trainer: Trainer) -> dict[str, Any]:
        """State of the half-finished epoch by name, tensors and plain values; collective."""
        found = self.labels.found
        return {
            "epoch": self.number,
            "labels": torch.from_numpy(self.labels.labels),
            "kind": self.labels.kind,
            "found": None if found is None else torch.from_numpy(found.labels),
            "criterion": self.criterion.state_dict(),
            "progress": self.progress._asdict(),
            "seconds": self.seconds,
            "quality": self.quality,
            "augmenting": self.augmentation.bit_generator.state,
            **draws_so_far(trainer.group, trainer.fabric.device),
        }

    @classmethod
    def restore(cls, trainer: Trainer, stage: Stage, state: Mapping[str, Any]) -> Self:
        """Continue the epoch that `state` was called on; weights and optimiser are restored before."""
        if "result" in state:  # of the first versions, which saved the progress by position
            progress = dict(zip(EpochProgress._fields, state["result"], strict=True))
            state = {"quality": {}, **state["record"], **state, "progress": progress}
        trainer.model.retrieval = stage.retrieval
        epoch = cls(state["epoch"], stage, trainer.config.seed)
        found = None if state["found"] is None else EpochLabels(state["found"].numpy(), "clusters")
        epoch.labels = EpochLabels(state["labels"].numpy(), state["kind"], found=found)
        epoch.hook = stage.step_hook(epoch.number)  # before the criterion, whose state it may reset
        epoch.criterion = stage.criterion(None, epoch.labels, state["criterion"])
        epoch.criterion.load_state_dict(state["criterion"])
        epoch.progress = EpochProgress(**state["progress"])
        epoch.seconds, epoch.quality = dict(state["seconds"]), dict(state["quality"])
        epoch.augmentation.bit_generator.state = state["augmenting"]
        continue_draws(state, epoch.seed, epoch.number, trainer.group, trainer.fabric.device)
        return epoch

    def evaluate(self, trainer: Trainer, benchmark: Benchmark, plan: StagePlan) -> ModelScores:
        """Score the model where it is due: every few epochs, before a stage with a new optimiser, and at the end.

        Raises:
            EvaluationError: No query has a valid match.
        """
        found, ends = ModelScores({}), self.number > 0 and plan.ends_stage(self.number)
        due = ends or self.number % trainer.config.evaluation.every == 0
        if due and benchmark.ranked is not None:
            with self.timed("evaluate"):
                found = trainer.evaluate(*benchmark.ranked)
        others = benchmark.others if ends else {}
        return found._replace(others={name: trainer.evaluate(*images).scores for name, images in others.items()})

    def record(self, trainer: Trainer, scores: ModelScores) -> EpochRecord:
        """Summarise the epoch."""
        if not self.number:
            return EpochRecord(epoch=0, scores=scores.scores, seconds=self.seconds)
        return EpochRecord(
            epoch=self.number,
            labels=self.found.kind,
            clusters=self.found.clusters,
            noise=self.found.noise / len(self.found.labels),
            learning_rate=trainer.optimizer.param_groups[0]["lr"],
            quality=self.quality,
            loss=self.progress.mean_loss,
            skipped=self.progress.skipped,
            images=self.progress.images,
            metrics=self.stage.metrics(),
            scores=scores.scores,
            others=scores.others,
            seconds=self.seconds,
        )


def train_epoch(trainer: Trainer, epoch: Epoch, after_step: Callable[[], None] = lambda: None) -> None:
    """Train to the end of an epoch.

    Every process works on its share of each batch. The loss is that of the whole batch, and so is its gradient.

    Args:
        trainer: Network and optimiser; they change.
        epoch: Labels and criterion; its progress is updated after every step.
        after_step: Called after every step; may raise to stop.

    Raises:
        NotFiniteError: More losses or gradients than `training.skip_limit` are not finite.
    """
    stage, optimizer, scaling = epoch.stage, trainer.optimizer, GradientScaling(trainer.fabric)
    trainer.network.train()
    trainer.progress.begin("train", stage.learning.iterations, "steps")
    before, buffers = epoch.start_training(), list(trainer.buffers())
    with closing(_read_batches(trainer, epoch)) as batches:
        for step, batch in enumerate(batches, start=before.done + 1):
            # Rates of this step; statistics that a skipped step gives back
            epoch.hook.before_step(optimizer, step)
            optimizer.zero_grad()
            statistics = [buffer.clone() for buffer in buffers]
            # Augmentation, forward and backward pass
            losses, outputs, labels = _forward_backward(trainer, epoch, batch)
            loss, norm = _measure(losses, optimizer)
            if math.isfinite(loss) and (math.isfinite(norm) or scaling.enabled):
                # Gradients clipped, weights and memory updated
                scaling.unscale(optimizer)
                epoch.hook.before_update()
                optimizer.step()
                epoch.criterion.update(outputs, labels)
                epoch.count_step(loss, batch)
            else:
                # Step skipped
                for buffer, value in zip(buffers, statistics, strict=True):
                    buffer.copy_(value)
                epoch.skip_step(loss, batch, trainer.config.training.skip_limit)
            # Progress
            done = epoch.progress
            trainer.progress.advance(step, loss=done.mean_loss, images=done.images - before.images)
            after_step()


def _read_batches(trainer: Trainer, epoch: Epoch) -> Generator[Batch, None, None]:
    """Read the batches that are left of an epoch, while the device works on the batch before."""
    stage = epoch.stage
    reader = BatchReader(
        stage.images,
        epoch.labels.labels,
        trainer.group,
        accumulation_steps=stage.learning.accumulation_steps,
        two_domains=stage.two_domains,
        pinned=trainer.fabric.device.type == "cuda",
    )
    drawn = stage.batches(epoch.labels, epoch.number, np.random.default_rng(streams(epoch.seed, epoch.number)[0]))
    return prefetch(map(reader.read, islice(drawn, epoch.progress.done, None)))


def _forward_backward(trainer: Trainer, epoch: Epoch, batch: Batch) -> tuple[Tensor, Any, Tensor]:
    """Add up the gradients of a batch, one part after the other.

    Returns:
        Losses (parts,) of the whole batch; outputs and labels that the criterion took last.
    """
    fabric, group, stage = trainer.fabric, trainer.group, epoch.stage
    whole = stage.network is None  # else the loss is a mean over images, and each process takes that over its images
    augment = stage.augment(batch.size, epoch.augmentation)
    losses, outputs, labels = [], None, batch.labels
    for part in batch.parts:
        # Gradients are summed over processes once, those of all parts together
        with fabric.no_backward_sync(trainer.network, enabled=part is not batch.parts[-1]):
            pixels, cameras, labels = (part[name].to(fabric.device, non_blocking=True) for name in _INPUTS)
            outputs = trainer.network(augment(pixels, part["rows"].numpy()), cameras)
            if whole:
                outputs = group.gather_batch(outputs, batch.size, two_domains=stage.two_domains)
                labels = batch.labels.to(fabric.device, non_blocking=True)
            loss = epoch.criterion(outputs, labels) * (1.0 if whole else len(pixels) / batch.size)
            losses.append(loss.detach().float())
            fabric.backward(loss)
    stacked = torch.stack(losses)
    return stacked if whole else group.all_reduce(stacked), outputs, labels


@torch.no_grad()
def _measure(losses: Tensor, optimizer: Optimizer) -> tuple[float, float]:
    """Sum of the losses (parts,) and norm of the gradient; nothing else in a step waits for the device."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    *values, length = torch.cat([losses, norm.float()[None]]).tolist()
    return sum(values), length
