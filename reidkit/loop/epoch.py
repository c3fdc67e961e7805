"""One epoch of training: the only place where weights change."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from reidkit.datasets import prefetch
from reidkit.errors import TrainingError
from reidkit.loop.images import ImageSet
from reidkit.loop.progress import Progress

__all__ = ["Criterion", "EpochResult", "Steering", "train_epoch"]

logger = logging.getLogger(__name__)


class Criterion(Protocol):
    """What a batch is trained by."""

    def __call__(self, outputs: Any, labels: Tensor, /) -> Tensor:
        """The loss, a scalar, of what the network gives (`Embeddings` in most stages); labels (B,) are >= 0."""
        ...

    def update(self, outputs: Any, labels: Tensor, /) -> None:
        """What follows the optimiser's step, such as moving a memory bank."""
        ...


class Steering(Protocol):
    """What surrounds the optimiser's steps of a stage whose rates change from step to step."""

    def begin(self, optimizer: Optimizer, step: int) -> None:
        """Set the rates of a step, counted from 1 in the epoch."""
        ...

    def clip(self) -> None:
        """Look after the gradients, before the optimiser's step."""
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
    network: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    batches: Iterable[NDArray[np.int64]],
    *,
    images: ImageSet,
    labels: NDArray[np.int64],
    augment: Callable[[Tensor], Any],
    skip_limit: int,
    steps: int,
    progress: Progress,
    steering: Steering | None = None,
    parts: int = 1,
) -> EpochResult:
    """Train on the given batches.

    Args:
        fabric: Device and precision; network and optimizer are set up with it.
        network: What `augment` returns and cameras (B,) -> what the criterion takes.
        criterion: The network's outputs and labels -> loss.
        optimizer: Over the network's parameters.
        batches: (B,) indices of images, `steps` times.
        images: N images; their cameras reach a model with camera embeddings.
        labels: (N,) class of every image.
        augment: (B, 3, H, W) uint8 -> what the network sees, (B, 3, H, W) float32 in most stages; on the device.
        skip_limit: Steps whose loss may be NaN or infinite; they change nothing.
        steps: Number of batches.
        progress: Told of steps and loss.
        steering: What surrounds the optimiser's steps, if anything does.
        parts: A batch goes through the network in so many parts, whose gradients add up, to need less memory.

    Raises:
        TrainingError: More losses than `skip_limit` are not finite.
    """
    network.train()
    progress.begin("train", steps, "steps")
    total, taken, skipped, seen = 0.0, 0, 0, 0
    ahead = prefetch(_read(images, labels, batches, parts, pinned=fabric.device.type == "cuda"))
    with closing(ahead):
        for step, batch in enumerate(ahead, start=1):
            if steering is not None:
                steering.begin(optimizer, step)
            optimizer.zero_grad()
            value = 0.0
            for part in batch:
                pixels, cameras, targets = (tensor.to(fabric.device, non_blocking=True) for tensor in part)
                outputs = network(augment(pixels), cameras)
                loss = criterion(outputs, targets) / parts
                value += loss.item()
                if not math.isfinite(value):
                    break
                fabric.backward(loss)
            seen += sum(len(part.pixels) for part in batch)
            if math.isfinite(value):
                if steering is not None:
                    steering.clip()
                optimizer.step()
                criterion.update(outputs, targets)
                total, taken = total + value, taken + 1
            else:
                skipped = _skip(skipped, skip_limit, value, step)
            progress.advance(step, loss=total / max(1, taken), images=seen)
    return EpochResult(total / max(1, taken), taken, skipped, seen)


class _Part(NamedTuple):
    pixels: Tensor
    cameras: Tensor
    labels: Tensor


def _read(
    images: ImageSet, labels: NDArray[np.int64], batches: Iterable[NDArray[np.int64]], parts: int, *, pinned: bool
) -> Iterator[list[_Part]]:
    """The images of each batch, as many parts as it has; read while the device works on the batch before."""
    for indices in batches:
        arrays = (images.pixels[indices], images.split.cameras[indices], labels[indices])
        tensors = [torch.from_numpy(array) for array in arrays]
        chunks = zip(*((tensor.pin_memory() if pinned else tensor).chunk(parts) for tensor in tensors), strict=True)
        yield [_Part(*chunk) for chunk in chunks]


def _skip(skipped: int, limit: int, value: float, step: int) -> int:
    if skipped >= limit:
        raise TrainingError(
            f"the loss is {value} at step {step}, after {skipped} skipped steps in this epoch (training.skip_limit="
            f"{limit}); the last complete epoch is saved. Start again from it with a lower learning rate (--set "
            "optimizer.learning_rate=...) or with --precision 32"
        )
    logger.warning("the loss is %s at step %d: this step is skipped", value, step)
    return skipped + 1
