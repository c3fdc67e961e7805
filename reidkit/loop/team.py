"""The processes of a run: each works on a share of every batch and of every extraction, all see the same results.

A run is the same whatever their number: batches are drawn and augmented as one process would do it, losses are taken
over the whole batch, and BatchNorm sees the whole batch.
"""

from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reidkit.errors import TrainingError

__all__ = ["Team"]

Value = TypeVar("Value")
Rows = NDArray[np.int64]


class Team:
    """The processes of a run, by the Fabric that joined them; one process is a team of its own.

    All but `share` are collective: every process must call them, in the same order.

    Args:
        fabric: Launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.size = fabric.global_rank, fabric.world_size

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def share(self, count: int, *, halves: bool = False, rank: int | None = None) -> Rows:
        """The rows of a batch of `count` that a process works on, ascending; by default this process.

        Args:
            count: Images of the batch.
            halves: The batch is two halves of different domains: a share has its part of each.
            rank: Whose share.

        Raises:
            TrainingError: A process would have no image.
        """
        rank, sides = self.rank if rank is None else rank, 2 if halves else 1
        length = count // sides
        if length < self.size:
            raise TrainingError(
                f"a batch of {count} images has too few for {self.size} processes; start fewer, or raise --batch-size"
            )
        first, last = length * rank // self.size, length * (rank + 1) // self.size
        return np.concatenate([np.arange(first, last) + side * length for side in range(sides)])

    def gather(self, outputs: Value, count: int, *, halves: bool = False) -> Value:
        """Rows of the whole batch from every process's share of them; gradients flow to the own rows only.

        Args:
            outputs: A tensor (B', ...) or a named tuple of such, of this process's share.
            count: Images B of the batch.
            halves: As in `share`.

        Returns:
            The same with (B, ...), in the order of the batch.
        """
        if self.size == 1:
            return outputs
        if not isinstance(outputs, Tensor):
            parts = (self.gather(part, count, halves=halves) for part in cast(tuple[Tensor, ...], outputs))
            return type(outputs)(*parts)
        shares = [self.share(count, halves=halves, rank=rank) for rank in range(self.size)]
        longest = max(len(rows) for rows in shares)
        padded = outputs.detach().new_zeros(longest, *outputs.shape[1:])
        padded[: len(outputs)] = outputs.detach()
        received = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(received, padded)
        whole = outputs.new_empty(count, *outputs.shape[1:])
        for rows, rest in zip(shares, received, strict=True):
            whole[torch.from_numpy(rows)] = rest[: len(rows)]
        own = torch.from_numpy(shares[self.rank]).to(outputs.device)
        return cast(Value, whole.index_copy(0, own, outputs))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def unite(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put together (N, D) features of which every process has filled its rows and left the others at zero."""
        if self.size == 1:
            return rows
        tensor = torch.from_numpy(rows).to(self._fabric.device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def tell(self, value: Value) -> Value:
        """A value of the process that leads, to all; the others' is not looked at."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0, device=self._fabric.device)
        return cast(Value, values[0])

    def agree(self, wanted: bool) -> bool:
        """Whether any process wants something."""
        if self.size == 1:
            return wanted
        flag = torch.tensor(float(wanted), device=self._fabric.device)
        dist.all_reduce(flag)
        return bool(flag.item())

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            self._fabric.barrier()

    def add_gradients(self, network: nn.Module) -> None:
        """Let the gradients of a network that Fabric has set up be summed over processes, not averaged.

        Losses are taken over the whole batch, so that every process's gradient is already its part of the sum.
        """
        parallel = getattr(network, "_forward_module", None)
        if self.size > 1 and isinstance(parallel, DistributedDataParallel):
            parallel.register_comm_hook(None, _sum_bucket)


def _sum_bucket(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    return cast("torch.futures.Future[Tensor]", work.get_future().then(lambda done: done.value()[0]))
