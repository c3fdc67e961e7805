"""One epoch of training: the only place where weights change."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.backbones import Embeddings
from reidkit.errors import TrainingError
from reidkit.loop.images import ImageSet
from reidkit.loop.progress import Progress

__all__ = ["Criterion", "EpochResult", "train_epoch"]

logger = logging.getLogger(__name__)


class Criterion(Protocol):
    """What a batch is trained by."""

    def __call__(self, embeddings: Embeddings, labels: Tensor) -> Tensor:
        """The loss, a scalar; labels (B,) are >= 0."""
        ...

    def update(self, embeddings: Embeddings, labels: Tensor) -> None:
        """What follows the optimiser's step, such as moving a memory bank."""
        ...


class EpochResult(NamedTuple):
    """Figures of one epoch."""

    loss: float
    """Mean loss over the steps taken."""
    steps: int
    """Steps taken."""
    skipped: int
    """Steps left out because their loss was not finite."""
    images: int
    """Images seen."""


def train_epoch(
    fabric: Fabric,
    model: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    batches: Iterable[NDArray[np.int64]],
    *,
    images: ImageSet,
    labels: NDArray[np.int64],
    augment: Callable[[Tensor], Tensor],
    skip_limit: int,
    steps: int,
    progress: Progress,
) -> EpochResult:
    """Train on the given batches.

    Args:
        fabric: Device and precision; model and optimizer are set up with it.
        model: Images (B, 3, H, W) and cameras (B,) -> Embeddings.
        criterion: Embeddings and labels -> loss.
        optimizer: Over the model's parameters.
        batches: (B,) indices of images, `steps` times.
        images: N images; their cameras reach a model with camera embeddings.
        labels: (N,) class of every image.
        augment: (B, 3, H, W) uint8 -> (B, 3, H, W) float32 on the device.
        skip_limit: Steps whose loss may be NaN or infinite; they change nothing.
        steps: Number of batches.
        progress: Told of steps and loss.

    Raises:
        TrainingError: More losses than `skip_limit` are not finite.
    """
    model.train()
    progress.begin("train", steps, "steps")
    total, taken, skipped, seen = 0.0, 0, 0, 0
    for step, indices in enumerate(batches, start=1):
        batch = augment(torch.from_numpy(images.pixels[indices]).to(fabric.device, non_blocking=True))
        cameras = torch.from_numpy(images.split.cameras[indices]).to(fabric.device)
        targets = torch.from_numpy(labels[indices]).to(fabric.device)
        embeddings = model(batch, cameras)
        loss = criterion(embeddings, targets)
        value = loss.item()
        if math.isfinite(value):
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            criterion.update(embeddings, targets)
            total, taken = total + value, taken + 1
        else:
            skipped = _skip(skipped, skip_limit, value, step)
        seen += len(indices)
        progress.advance(step, loss=total / max(1, taken), images=seen)
    return EpochResult(total / max(1, taken), taken, skipped, seen)


def _skip(skipped: int, limit: int, value: float, step: int) -> int:
    if skipped >= limit:
        raise TrainingError(
            f"the loss is {value} at step {step}, after {skipped} skipped steps in this epoch (training.skip_limit="
            f"{limit}); the last complete epoch is saved. Start again from it with a lower learning rate (--set "
            "optimizer.learning_rate=...) or with --precision 32"
        )
    logger.warning("the loss is %s at step %d: this step is skipped", value, step)
    return skipped + 1
