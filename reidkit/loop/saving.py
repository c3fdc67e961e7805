"""Checkpoints, records, labels and pictures of a run in training."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

import torch

from reidkit.clustering import clustering_record
from reidkit.datasets import draw_clusters
from reidkit.errors import ReidkitError, RunError, TrainingError
from reidkit.loop.device import enough_memory, finish_together
from reidkit.loop.epoch import Epoch, NotFiniteError
from reidkit.loop.evaluation import Benchmark, ModelScores
from reidkit.loop.labels import Features, watch_noise
from reidkit.loop.stages import StagePlan
from reidkit.loop.trainer import Trainer
from reidkit.runs import EpochRecord, Interruption, Loggers, RunFolder, save_rankings

__all__ = ["RunSaver"]


class RunSaver:
    """Saves the work of a run, and stops it when SIGTERM or Ctrl-C has asked for it; a context manager.

    The main process writes; all processes call every method, in the same order.

    Args:
        trainer: Weights and settings.
        plan: Stages of the run.
        run: Its folder.
        benchmark: Query and gallery images, for the rank lists of the last evaluation.
        resume: Continue the run in W&B and MLflow, too.
    """

    def __init__(
        self, trainer: Trainer, plan: StagePlan, run: RunFolder, benchmark: Benchmark, *, resume: bool
    ) -> None:
        self._trainer, self._plan, self._run, self._benchmark, self._resume = trainer, plan, run, benchmark, resume
        self._history: list[EpochRecord] = []
        self._stack = ExitStack()
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._interruption = stack.enter_context(Interruption())
            main, config = self._trainer.group.is_main, self._trainer.config
            self._loggers = stack.enter_context(Loggers(self._run.path, config, is_main=main, resume=self._resume))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def start(self, *, resume: bool) -> tuple[list[EpochRecord], Epoch | None]:
        """Set up the first stage, or continue from the run's last checkpoint, if it has one.

        Returns:
            The records so far, a list that the loop adds to, and the half-finished epoch in which the run was stopped.

        Raises:
            RunError: The checkpoint cannot be read, or is of other settings.
        """
        trainer, state = self._trainer, self._run.load_checkpoint() if resume else None
        trainer.add_heads(stage.head for stage in self._plan.stages if stage.head is not None)
        interrupted = None
        if state is None:
            trainer.model.retrieval = self._plan.set_up(1, trainer, prepare=False).retrieval
        else:
            with self._checkpoint_mismatch():
                interrupted = self._restore(state)
        if trainer.group.is_main:
            self._run.restore_history(self._history)
            self._loggers.log(self._history)
        trainer.progress.start_run(len(self._history), self._plan.epochs)
        return self._history, interrupted

    def _restore(self, state: dict[str, Any]) -> Epoch | None:
        """Restore history, model, heads and optimiser, and a half-finished epoch."""
        trainer, partial = self._trainer, state.get("partial")
        self._history = [EpochRecord.from_line(line) for line in state["history"]]
        last = partial["epoch"] if partial else len(self._history) - 1
        stage = self._plan.set_up(max(1, last), trainer, prepare=last > 0)
        trainer.load_state(state)
        return Epoch.restore(trainer, stage, partial) if partial else None

    def save_clustering(self, epoch: Epoch, features: Features | None) -> None:
        """Measure the clusters of an epoch, warn of noise, save the features of the last one; stop if requested."""
        stage, found, config = epoch.stage, epoch.found, self._trainer.config
        if self._trainer.group.is_main:
            last = self._history[-1]
            before = last.noise if last.labels == "clusters" else None
            if features is not None and epoch.number == self._plan.epochs:
                self._run.save_features(features[len(features) - len(stage.target.split) :], stage.target.split)
            watch_noise(found, epoch.number, config.clustering, before=before)
            if found.kind == "clusters":
                previous = self._run.load_labels(last.epoch) if last.labels == "clusters" else None
                cameras = stage.target.split.cameras
                epoch.quality = clustering_record(found.labels, graph=found.graph, previous=previous, cameras=cameras)
        self._stop_if_requested(f"epoch {epoch.number - 1} is saved")

    @contextmanager
    def training(self, epoch: Epoch) -> Iterator[Callable[[], None]]:
        """Explain what ends the training of an epoch too early; gives the hook that saves after a step.

        Raises:
            TrainingError: Loss or gradient were not finite too often, or the device has too little memory.
        """
        self._saved_at = time.monotonic()
        try:
            with enough_memory(*_training_memory(self._trainer, epoch)):
                yield self._checkpoint_hook(epoch)
        except NotFiniteError as error:
            if self._trainer.group.is_main:
                rows, paths = error.batch.indices, epoch.stage.images.split.paths
                self._run.save_bad_batch(rows, [paths[row] for row in rows], epoch.labels.labels[rows], epoch.losses)
            place = f"The batch of that step, and the losses before it, are in {self._run.bad_batch}"
            raise TrainingError(f"{error}. {place}") from error

    def save_epoch(self, epoch: Epoch, scores: ModelScores) -> None:
        """Save a finished epoch, whose record is the last of the history; stop if requested.

        `source.pt` is the model before a stage that starts with a new optimiser, `best.pt` that of the best scores.
        With `last.pt` the epoch is done: after a kill before it the others are written again, after it they are there.
        """
        trainer, record = self._trainer, self._history[-1]
        trainer.check_weights()
        if trainer.group.is_main:
            self._save_labels(epoch, scores)
            last = epoch.number == self._plan.epochs
            if epoch.number > 0 and not last and self._plan.ends_stage(epoch.number):
                self._run.save_checkpoint("source", self._with_history(trainer.weights()))
            # A teacher is worth what follows pre-training, not its frozen feature: its last weights count
            best = max((each.scores["mAP"] for each in self._history if each.scores), default=0.0)
            if epoch.stage.network is None and record.scores and record.scores["mAP"] == best:
                self._run.save_checkpoint("best", self._with_history(trainer.weights()))
            self._run.save_checkpoint("last", self._with_history(trainer.state()))
            self._run.append(record)
            self._loggers.log(self._history)
        trainer.group.barrier()
        trainer.progress.end_epoch(record)
        if epoch.number < self._plan.epochs:
            self._stop_if_requested(f"epoch {epoch.number} is saved")

    def _save_labels(self, epoch: Epoch, scores: ModelScores) -> None:
        """Write labels, a sheet of clusters for TensorBoard, and the rank lists of the last evaluation."""
        stage, number = epoch.stage, epoch.number
        if number and stage.network is None:
            found = epoch.found
            self._run.save_labels(number, found.labels, stage.target.split.paths)
            if scores.scores and found.kind == "clusters":
                self._run.append_picture(number, "clusters", draw_clusters(found.labels, stage.target.pixels))
        ranked, precisions = self._benchmark.ranked, scores.average_precisions
        if number == self._plan.epochs and ranked is not None and precisions is not None:
            queries, images = scores.features
            save_rankings(self._run, precisions, queries, images, ranked[0].split, ranked[1].split)

    def _checkpoint_hook(self, epoch: Epoch) -> Callable[[], None]:
        """Save the work now and then, and when the run is asked to stop.

        Not after a step that was skipped: the weights may be the cause, and a checkpoint must be good.
        """
        minutes, iterations = self._trainer.config.training.save_minutes, epoch.stage.learning.iterations
        group, taken = self._trainer.group, epoch.progress.steps

        def after_step() -> None:
            nonlocal taken
            finite, taken = epoch.progress.steps > taken, epoch.progress.steps
            stop = group.any_rank(self._interruption.requested)
            overdue = group.any_rank(time.monotonic() - self._saved_at > 60 * minutes)
            if finite and epoch.progress.done < iterations and (stop or overdue):
                self._trainer.check_weights()
                partial = epoch.state(self._trainer)
                if group.is_main:
                    self._run.save_checkpoint("last", self._with_history(self._trainer.state()) | {"partial": partial})
                self._saved_at = time.monotonic()
                if stop:
                    self._stop(f"epoch {epoch.number} is saved up to step {epoch.progress.done} of {iterations}")

        return after_step

    @contextmanager
    def _checkpoint_mismatch(self) -> Iterator[None]:
        """Refuse a checkpoint that is whole, but whose parts are not those of this run."""
        try:
            yield
        except (ReidkitError, torch.OutOfMemoryError):
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RunError(
                f"the checkpoint of {self._run.path} does not go with its settings ({reason}); bring back a copy of "
                "it, or start a new run without --resume"
            ) from error

    def _with_history(self, state: dict[str, Any]) -> dict[str, Any]:
        return state | {"history": [record.as_line() for record in self._history]}

    def _stop_if_requested(self, saved: str) -> None:
        """Stop here if that was asked for: nothing is lost but what has just begun."""
        if self._trainer.group.any_rank(self._interruption.requested):
            self._stop(saved)

    def _stop(self, saved: str) -> NoReturn:
        """Stop all processes, which have agreed on it, once it is saved: torchrun ends the others with the first."""
        self._trainer.group.barrier()
        finish_together()
        self._interruption.stop(saved)


def _training_memory(trainer: Trainer, epoch: Epoch) -> tuple[str, str]:
    """The work of training, and a batch that needs less memory."""
    config, learning = trainer.config, epoch.stage.learning
    size, instances = learning.batch_size, learning.instances
    section = "supervised" if epoch.labels.kind == "identities" and config.mode != "usl" else "sampler"
    remedy = f"start a new run with --set {section}.batch_size={max(1, size // 2 // instances) * instances}"
    if config.mode == "pretrain":
        parts = 2 * learning.accumulation_steps
        remedy += f", or with the same batches in smaller parts: --set pretrain.parts={parts}"
    return f"training on batches of {size:,} images", remedy
