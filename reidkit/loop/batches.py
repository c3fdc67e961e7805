"""Batches of an epoch: which images, and their pixels on the way to the device."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidkit.datasets import sample_batches
from reidkit.distributed import ProcessGroup
from reidkit.loop.images import ImageSet

__all__ = ["Batch", "BatchReader", "class_batches"]

logger = logging.getLogger(__name__)

Integers = NDArray[np.int64]


def class_batches(
    domains: Sequence[tuple[Integers, Integers]],
    *,
    batch_size: int,
    instances: int,
    iterations: int,
    number: int,
    rngs: Sequence[np.random.Generator],
) -> Iterator[Integers]:
    """Draw batches of P classes x K images, in equal parts from each domain.

    Args:
        domains: Labels (N,) and cameras (N,) of the images of each domain; a batch has those of the first in front.
        batch_size: Images of a batch, over all domains.
        instances: Images K of a class.
        iterations: Number of batches.
        number: The epoch, for the warning that batches are smaller.
        rngs: One for each domain.

    Yields:
        (B,) rows of the images, counted over all domains.
    """
    wanted = max(1, batch_size // instances // len(domains))
    clusters = min(len(np.unique(labels[labels >= 0])) for labels, _ in domains)
    if clusters < wanted:
        logger.warning(
            "epoch %d: %d clusters are fewer than the %d of a batch: batches have %d images instead of %d",
            *(number, clusters, wanted, clusters * instances * len(domains), batch_size),
        )
    drawn = (
        sample_batches(
            labels,
            cameras,
            clusters_per_batch=min(wanted, max(1, clusters)),
            instances=instances,
            batches=iterations,
            rng=rng,
        )
        for (labels, cameras), rng in zip(domains, rngs, strict=True)
    )
    starts = np.cumsum([0] + [len(labels) for labels, _ in domains])
    for parts in zip(*drawn, strict=True):
        yield np.concatenate([start + part for start, part in zip(starts, parts, strict=False)])


class Batch(NamedTuple):
    """A batch in main memory: all labels, and this process's share of the images."""

    indices: Integers
    """(B,) of the whole batch."""
    labels: Tensor
    """(B,) of the whole batch."""
    parts: list[dict[str, Tensor]]
    """One per accumulation step: `pixels` (B', 3, H, W) uint8, `cameras`, `labels` and `rows` in the batch (B',)."""

    @property
    def size(self) -> int:
        """Images B of the whole batch."""
        return len(self.indices)


class BatchReader:
    """Reads this process's share of batches, on another thread than the one that trains.

    Args:
        images: N images.
        labels: (N,) classes.
        group: Processes that share every batch.
        accumulation_steps: Parts of a share.
        two_domains: Batches are two halves of different domains.
        pinned: Read into memory that a GPU copies from without waiting.
    """

    def __init__(
        self,
        images: ImageSet,
        labels: Integers,
        group: ProcessGroup,
        *,
        accumulation_steps: int = 1,
        two_domains: bool = False,
        pinned: bool = False,
    ) -> None:
        self._images, self._labels, self._group = images, labels, group
        self._steps, self._two_domains, self._pinned = accumulation_steps, two_domains, pinned

    def read(self, indices: Integers) -> Batch:
        """Read the images of one batch (B,)."""
        rows = self._group.batch_rows(len(indices), two_domains=self._two_domains)
        own = indices[rows]
        arrays: dict[str, NDArray[Any]] = {
            "pixels": self._images.pixels[own],
            "cameras": self._images.split.cameras[own],
            "labels": self._labels[own],
            "rows": rows,
        }
        chunks = {name: self._tensor(array).chunk(self._steps) for name, array in arrays.items()}
        parts = [dict(zip(chunks, part, strict=True)) for part in zip(*chunks.values(), strict=True)]
        return Batch(indices, self._tensor(self._labels[indices]), parts)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._pinned else tensor
