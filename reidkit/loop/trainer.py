"""Model, heads and optimiser of a run, and the stages that they pass through."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel, synchronise_norms
from reidkit.distributed import ProcessGroup
from reidkit.errors import ReidkitError, RunError, TrainingError
from reidkit.loop.device import compile_backbones, enough_memory, place
from reidkit.loop.epoch import Epoch
from reidkit.loop.evaluation import Benchmark, ModelScores, evaluate_model
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet
from reidkit.loop.labels import Features
from reidkit.loop.optimisation import check_moments, create_optimizer, set_learning_rate
from reidkit.loop.progress import Progress
from reidkit.loop.randomness import start_draws
from reidkit.loop.schedules import epoch_rate
from reidkit.loop.stages import Stage
from reidkit.runs import EpochRecord, RunConfig, RunFolder

__all__ = ["StagePlan", "Trainer"]


class Trainer:
    """Model, heads and optimiser on the devices and processes of a run; changes with every step.

    Args:
        fabric: Devices, processes and precision; launched.
        model: Trained, or followed as a teacher; it is moved to the device.
        config: All settings.
        progress: Shows what is done.
    """

    network: Any
    """The module that is trained: the model, set up by Fabric, unless the stage has a network."""
    optimizer: Optimizer

    def __init__(self, fabric: Fabric, model: EmbeddingModel, config: RunConfig, progress: Progress) -> None:
        self.fabric, self.model, self.config, self.progress = fabric, model, config, progress
        self.group = ProcessGroup.of_fabric(fabric)
        self.heads = nn.ModuleList()
        self._place(model)

    def start(self, plan: "StagePlan") -> tuple[list[EpochRecord], None]:
        """Set up the heads of all stages and the first stage."""
        self._add_heads(plan)
        self.model.retrieval = plan.at(1).retrieval
        self.set_up(plan.at(1))
        return [], None

    def restore(self, run: RunFolder, plan: "StagePlan") -> tuple[list[EpochRecord], Epoch | None]:
        """Continue from the run's last checkpoint, if it has one.

        Returns:
            The records of its epochs, and the half-finished epoch in which it was stopped.

        Raises:
            RunError: The checkpoint cannot be read, or is of other settings.
        """
        state = run.load_checkpoint()
        if state is None:
            return self.start(plan)
        self._add_heads(plan)
        with _checkpoint_mismatch(run.path):
            history = [EpochRecord.from_line(line) for line in state["history"]]
            partial = state.get("partial")
            # The parts of model and optimiser whose state is loaded next
            last = partial["epoch"] if partial else len(history) - 1
            stage = plan.at(max(1, last))
            if stage.prepare is not None and last > 0:
                stage.prepare(self.model)
        self.set_up(stage)
        with _checkpoint_mismatch(run.path):
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
            check_moments(self.optimizer)
            if scaler := state.get("scaler"):  # of gradients in 16 bits
                self.fabric.strategy.precision.load_state_dict(scaler)
            interrupted = Epoch.restore(self, stage, partial) if partial else None
        return history, interrupted

    def weights(self) -> dict[str, Any]:
        """State of the model, to embed images with."""
        return {
            "model": self.model.state_dict(),
            "retrieval": self.model.retrieval,
            "config": self.config.model_dump_json(),
        }

    def state(self) -> dict[str, Any]:
        """State of model, heads and optimiser, to continue from."""
        return self.weights() | {
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def check_weights(self) -> None:
        """Refuse weights that are not finite: no good checkpoint is replaced by them.

        Raises:
            TrainingError: Weights are NaN or infinite.
        """
        for module in (self.model, self.heads):
            for name, tensor in module.state_dict().items():
                if not torch.isfinite(tensor).all():
                    raise TrainingError(
                        f"{name} is not finite any more; the last checkpoint is from before that. Start again from it "
                        "(--pretrained) with a lower learning rate (--set optimizer.learning_rate=...) or with "
                        "--precision 32"
                    )

    def _add_heads(self, plan: "StagePlan") -> None:
        self.heads = nn.ModuleList(stage.head for stage in plan.stages if stage.head is not None)
        self._place(self.heads)

    def _place(self, module: nn.Module) -> None:
        place(self.fabric, module)
        if self.config.training.compile:
            compile_backbones(module)

    def set_up(self, stage: Stage) -> None:
        """Set up network and optimiser for a stage; the weights stay as they are."""
        if self.group.size > 1:
            synchronise_norms(self.model)
            synchronise_norms(self.heads)
        optimizer = create_optimizer(nn.ModuleList([self.model, self.heads]), stage.learning.optimizer)
        self.network, self.optimizer = self.fabric.setup(stage.network or self.model, optimizer)
        self.group.sum_gradients(self.network)

    def buffers(self) -> Iterator[Tensor]:
        """Statistics of BatchNorm and the like, which a forward pass changes; of teacher and student, if there are."""
        return itertools.chain(self.model.buffers(), self.heads.buffers())

    def extract(self, images: ImageSet, rows: slice = slice(None)) -> Features:
        """Extract features (N, D) of training images, or of some rows of them."""
        with self._extraction_memory():
            return extract(self.fabric, self.model, images, self.config, self.progress, rows=rows)

    def evaluate(self, benchmark: Benchmark, epoch: Epoch, plan: "StagePlan") -> ModelScores:
        """Score the model where it is due: every few epochs, before a stage with a new optimiser, and at the end.

        Raises:
            EvaluationError: No query has a valid match.
        """
        number = epoch.number
        ends = number > 0 and plan.ends_stage(number)
        found = ModelScores({})
        if benchmark.ranked is not None and (ends or number % self.config.evaluation.every == 0):
            with epoch.timed("evaluate"):
                found = self._evaluate(*benchmark.ranked)
        others = benchmark.others if ends else {}
        return found._replace(others={name: self._evaluate(*images).scores for name, images in others.items()})

    def _evaluate(self, query: ImageSet, gallery: ImageSet) -> ModelScores:
        with self._extraction_memory():
            return evaluate_model(self.fabric, self.model, query, gallery, self.config, self.progress)

    def _extraction_memory(self) -> AbstractContextManager[None]:
        size = self.config.evaluation.batch_size
        return enough_memory(
            f"features of {size:,} images at a time",
            f"go on with --resume --set evaluation.batch_size={max(1, size // 2)}, which changes no result",
        )


class StagePlan:
    """Which stage an epoch, counted from 1, belongs to.

    Args:
        stages: In the order of their epochs; the last one lasts to the run's end.
        epochs: Of the run.
    """

    def __init__(self, stages: Sequence[Stage], epochs: int) -> None:
        self.stages, self.epochs = stages, epochs

    def at(self, number: int) -> Stage:
        """The stage of an epoch."""
        return self.stages[self._index(number)]

    def enter(self, number: int, trainer: Trainer) -> Stage:
        """Prepare the trainer for an epoch: parts of a new stage, random state, learning rate."""
        stage, start = self.at(number), self.stage_start(number)
        if stage.prepare is not None and number == start + 1:
            stage.prepare(trainer.model)
            trainer.set_up(stage)
        trainer.model.retrieval = stage.retrieval
        start_draws(trainer.config.seed, number, trainer.group)
        last = min(stage.last_epoch, self.epochs)
        base, schedule = stage.learning.optimizer.learning_rate, stage.learning.schedule
        set_learning_rate(trainer.optimizer, epoch_rate(number - start, last - start, base, schedule))
        return stage

    def stage_start(self, number: int) -> int:
        """The last epoch of the stage before that of an epoch, or 0."""
        index = self._index(number)
        return self.stages[index - 1].last_epoch if index else 0

    def ends_stage(self, number: int) -> bool:
        """Whether another stage starts with a new optimiser after an epoch, or the run ends."""
        for stage, following in itertools.pairwise(self.stages[self._index(number) :]):
            if following.prepare is not None:
                return number == stage.last_epoch
        return number == self.epochs

    def _index(self, number: int) -> int:
        last = len(self.stages) - 1
        return next((index for index, stage in enumerate(self.stages) if number <= stage.last_epoch), last)


@contextmanager
def _checkpoint_mismatch(path: Path) -> Iterator[None]:
    """Refuse a checkpoint that is whole, but whose parts are not those of this run."""
    try:
        yield
    except (ReidkitError, torch.OutOfMemoryError):
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(
            f"the checkpoint of {path} does not go with its settings ({reason}); bring back a copy of "
            "it, or start a new run without --resume"
        ) from error
