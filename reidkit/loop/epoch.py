"""One epoch of training: the only place where weights change."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from reidkit.datasets import prefetch
from reidkit.distributed import ProcessGroup
from reidkit.errors import TrainingError
from reidkit.loop.images import ImageSet
from reidkit.loop.progress import Progress

__all__ = ["Criterion", "EpochResult", "NotFiniteError", "Steering", "Views", "train_epoch"]

logger = logging.getLogger(__name__)


class NotFiniteError(TrainingError):
    """More steps than are allowed had a loss or a gradient that was not finite."""


class Criterion(Protocol):
    """What a batch is trained by."""

    def __call__(self, outputs: Any, labels: Tensor, /) -> Tensor:
        """The loss, a scalar, of what the network gives (`Embeddings` in most stages); labels (B,) are >= 0."""
        ...

    def update(self, outputs: Any, labels: Tensor, /) -> None:
        """What follows the optimiser's step, such as moving a memory bank."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on inside an epoch, beyond the weights of network and heads."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ...


class Steering(Protocol):
    """What surrounds the optimiser's steps of a stage whose rates change from step to step."""

    def begin(self, optimizer: Optimizer, step: int) -> None:
        """Set the rates of a step, counted from 1 in the epoch."""
        ...

    def clip(self) -> None:
        """Look after the gradients, before the optimiser's step."""
        ...


Views = Callable[[int], Callable[[Tensor, NDArray[np.int64]], Any]]
"""Draws what happens to the images of a batch of so many. What it returns does that to (B', 3, H, W) uint8 pixels on
the device, which are given rows of the batch, and returns what the network sees of them."""


class EpochResult(NamedTuple):
    """Figures of an epoch, or of its steps so far."""

    loss: float = 0.0
    """Sum of the losses of the steps taken; `mean_loss` is what is shown."""
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
        """Batches behind, taken or skipped."""
        return self.steps + self.skipped


def train_epoch(
    fabric: Fabric,
    network: _FabricModule,
    criterion: Criterion,
    optimizer: Optimizer,
    batches: Iterable[NDArray[np.int64]],
    *,
    images: ImageSet,
    labels: NDArray[np.int64],
    views: Views,
    skip_limit: int,
    steps: int,
    progress: Progress,
    steering: Steering | None = None,
    parts: int = 1,
    halves: bool = False,
    gathered: bool = True,
    kept: Sequence[Tensor] = (),
    start: EpochResult = EpochResult(),  # noqa: B008  (immutable)
    after_step: Callable[[EpochResult], None] = lambda result: None,
) -> EpochResult:
    """Train on the given batches.

    Every process works on its share of each batch. The loss is that of the whole batch, and so is its gradient.

    Args:
        fabric: Devices, processes and precision; network and optimizer are set up with it.
        network: What `views` make of images, and cameras (B,) -> what the criterion takes.
        criterion: The network's outputs and labels -> loss.
        optimizer: Over the network's parameters.
        batches: (B,) indices of images, `steps` times.
        images: N images; their cameras reach a model with camera embeddings.
        labels: (N,) class of every image.
        views: Augmentation.
        skip_limit: Steps whose loss or gradient may be NaN or infinite; they change nothing.
        steps: Number of batches.
        progress: Told of steps and loss.
        steering: What surrounds the optimiser's steps, if anything does.
        parts: A batch goes through the network in so many parts, whose gradients add up, to need less memory.
        halves: A batch is two halves of different domains.
        gathered: The criterion takes the outputs of the whole batch. Else it takes those of a process's share or of a
            part, and its loss is a mean over these images.
        kept: What a forward pass changes and a skipped step must not, such as statistics of BatchNorm.
        start: What is behind already, in an epoch that was interrupted: so many batches are passed over.
        after_step: Told of what is behind after every step; may raise to stop.

    Raises:
        NotFiniteError: More losses or gradients than `skip_limit` are not finite.
    """
    team, result, precision = ProcessGroup.of_fabric(fabric), start, _Scaling(fabric, optimizer)
    network.train()
    progress.begin("train", steps, "steps")
    reader = _Reader(images, labels, team, parts, halves=halves, pinned=fabric.device.type == "cuda")
    with closing(prefetch(map(reader.read, islice(batches, start.done, None)))) as ahead:
        for step, batch in enumerate(ahead, start=start.done + 1):
            if steering is not None:
                steering.begin(optimizer, step)
            optimizer.zero_grad()
            before = [tensor.clone() for tensor in kept]
            losses, outputs, targets = [], None, batch.labels
            show = views(batch.size)
            for part in batch.parts:
                # Sums over processes are taken once, of the gradients of all parts.
                with fabric.no_backward_sync(network, enabled=part is not batch.parts[-1]):
                    pixels, cameras, targets = (part[name].to(fabric.device, non_blocking=True) for name in _TENSORS)
                    outputs = network(show(pixels, part["rows"].numpy()), cameras)
                    if gathered:
                        outputs = team.gather_batch(outputs, batch.size, two_domains=halves)
                        targets = batch.labels.to(fabric.device, non_blocking=True)
                    loss = criterion(outputs, targets) * (1.0 if gathered else len(pixels) / batch.size)
                    losses.append(loss.detach().float())
                    fabric.backward(loss)
            value, norm = _measure(torch.stack(losses) if gathered else team.all_reduce(torch.stack(losses)), optimizer)
            if math.isfinite(value) and (math.isfinite(norm) or precision.scaled):
                if steering is not None:
                    precision.unscale()
                    steering.clip()
                optimizer.step()
                criterion.update(outputs, targets)
                result = result._replace(loss=result.loss + value, steps=result.steps + 1)
            else:
                result = _skip(result, skip_limit, value, step)
                for tensor, old in zip(kept, before, strict=True):
                    tensor.copy_(old)
            result = result._replace(images=result.images + batch.size)
            progress.advance(step, loss=result.mean_loss, images=result.images - start.images)
            after_step(result)
    return result


_TENSORS = ("pixels", "cameras", "labels")


class _Batch(NamedTuple):
    size: int
    """Images of the whole batch."""
    labels: Tensor
    """Of the whole batch."""
    parts: list[dict[str, Tensor]]
    """Of this process's share: pixels, cameras, labels and rows in the batch."""


class _Reader:
    """Reads this process's share of a batch, while the device works on the batch before."""

    def __init__(
        self, images: ImageSet, labels: NDArray[np.int64], team: ProcessGroup, parts: int, *, halves: bool, pinned: bool
    ) -> None:
        self._images, self._labels, self._team = images, labels, team
        self._parts, self._halves, self._pinned = parts, halves, pinned

    def read(self, indices: NDArray[np.int64]) -> _Batch:
        """The images of one batch (B,)."""
        rows = self._team.batch_rows(len(indices), two_domains=self._halves)
        own = indices[rows]
        arrays: dict[str, NDArray[Any]] = {
            "pixels": self._images.pixels[own],
            "cameras": self._images.split.cameras[own],
            "labels": self._labels[own],
            "rows": rows,
        }
        chunks = {name: self._tensor(array).chunk(self._parts) for name, array in arrays.items()}
        parts = [dict(zip(chunks, part, strict=True)) for part in zip(*chunks.values(), strict=True)]
        return _Batch(len(indices), self._tensor(self._labels[indices]), parts)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._pinned else tensor


class _Scaling:
    """The scaling of gradients in 16 bits, where there is one: it looks itself for those that overflow."""

    def __init__(self, fabric: Fabric, optimizer: Optimizer) -> None:
        self._precision = fabric.strategy.precision
        self._optimizer = getattr(optimizer, "optimizer", optimizer)  # Fabric's wrapper would not be known again
        self.scaled = getattr(self._precision, "scaler", None) is not None

    def unscale(self) -> None:
        """Let gradients be what they are, once in a step."""
        self._precision.unscale_gradients(self._optimizer)


@torch.no_grad()
def _measure(losses: Tensor, optimizer: Optimizer) -> tuple[float, float]:
    """Sum of the losses (parts,) and norm of the gradient; nothing else in a step waits for the device."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    *values, length = torch.cat([losses, norm.float()[None]]).tolist()
    return sum(values), length


def _skip(result: EpochResult, limit: int, value: float, step: int) -> EpochResult:
    wrong = f"the gradient of a loss of {value:.4g} is not finite" if math.isfinite(value) else f"the loss is {value}"
    if result.skipped >= limit:
        raise NotFiniteError(
            f"{wrong} at step {step}, after {result.skipped} skipped steps in this epoch "
            f"(training.skip_limit={limit}); the last complete epoch is saved. Start again from it with a lower "
            "learning rate (--set optimizer.learning_rate=...) or with --precision 32"
        )
    logger.warning("%s at step %d: this step is skipped", wrong, step)
    return result._replace(skipped=result.skipped + 1)
