"""Model, heads and optimiser of a run."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import EmbeddingModel, synchronise_norms
from reidkit.distributed import ProcessGroup
from reidkit.errors import TrainingError
from reidkit.loop.device import compile_backbones, enough_memory, place
from reidkit.loop.evaluation import ModelScores, evaluate_model
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet
from reidkit.loop.labels import Features
from reidkit.loop.optimisation import check_moments, create_optimizer
from reidkit.loop.progress import Progress
from reidkit.runs import OptimizerConfig, RunConfig

__all__ = ["Trainer"]


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

    def add_heads(self, heads: Iterable[nn.Module]) -> None:
        """Take over the heads of all stages; their order is that of the checkpoints."""
        self.heads = nn.ModuleList(heads)
        self._place(self.heads)

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

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave; model and optimiser have the same parts as then."""
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        check_moments(self.optimizer)
        if scaler := state.get("scaler"):  # of gradients in 16 bits
            self.fabric.strategy.precision.load_state_dict(scaler)

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

    def _place(self, module: nn.Module) -> None:
        place(self.fabric, module)
        if self.config.training.compile:
            compile_backbones(module)

    def set_up(self, network: nn.Module | None, config: OptimizerConfig) -> None:
        """Set up the network of a stage, the model by default, and a new optimiser; the weights stay as they are."""
        if self.group.size > 1:
            synchronise_norms(self.model)
            synchronise_norms(self.heads)
        optimizer = create_optimizer(nn.ModuleList([self.model, self.heads]), config)
        self.network, self.optimizer = self.fabric.setup(network or self.model, optimizer)
        self.group.sum_gradients(self.network)

    def buffers(self) -> Iterator[Tensor]:
        """Statistics of BatchNorm and the like, which a forward pass changes; of teacher and student, if there are."""
        return itertools.chain(self.model.buffers(), self.heads.buffers())

    def extract(self, images: ImageSet, rows: slice = slice(None)) -> Features:
        """Extract features (N, D) of training images, or of some rows of them."""
        with self._extraction_memory():
            return extract(self.fabric, self.model, images, self.config, self.progress, rows=rows)

    def evaluate(self, query: ImageSet, gallery: ImageSet) -> ModelScores:
        """Score the model on query and gallery images.

        Raises:
            EvaluationError: No query has a valid match.
        """
        with self._extraction_memory():
            return evaluate_model(self.fabric, self.model, query, gallery, self.config, self.progress)

    def _extraction_memory(self) -> AbstractContextManager[None]:
        size = self.config.evaluation.batch_size
        return enough_memory(
            f"features of {size:,} images at a time",
            f"go on with --resume --set evaluation.batch_size={max(1, size // 2)}, which changes no result",
        )
