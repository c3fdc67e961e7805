"""The processes that share a run or a clustering: rank and size, shares of rows, and everything collective.

Everything goes through a `torch.distributed` group that Fabric or the caller has made; nothing here starts a process. A
run is the same whatever the number of processes: batches are drawn and augmented as one process would do it, losses are
taken over the whole batch, BatchNorm sees the whole batch, and a clustering gives the bits that one process gives.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ClusteringError, TrainingError

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from torch import Tensor, nn

__all__ = ["ALONE", "ProcessGroup"]

Value = TypeVar("Value")
Sum = TypeVar("Sum", "Tensor", "NDArray[Any]")
Arrays = TypeVar("Arrays", bound=tuple[NDArray[Any], ...])


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes that share a computation, and which of them this one is; without a group this one is alone.

    All methods but `rows` and `batch_rows` are collective: every process must call them, in the same order.
    """

    group: Any = None
    """`torch.distributed` process group, or None."""
    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, group: Any) -> "ProcessGroup":
        """The processes of a `torch.distributed` group; None: this process alone.

        Raises:
            ClusteringError: No process group is initialised, or this process is not in the group.
        """
        if group is None:
            return ALONE
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            raise ClusteringError(
                "group= needs an initialised process group; call torch.distributed.init_process_group (torchrun or "
                "Fabric does), or pass group=None to compute in this process alone"
            )
        rank = dist.get_rank(group)
        if rank < 0:
            raise ClusteringError("this process is not in the group; only its members may call with group=")
        return cls(group, rank, dist.get_world_size(group))

    @classmethod
    def of_fabric(cls, fabric: "Fabric") -> "ProcessGroup":
        """The processes of a launched Fabric."""
        if fabric.world_size == 1:
            return ALONE
        import torch.distributed as dist

        return cls.of(dist.group.WORLD)

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def rows(self, count: int) -> tuple[int, int]:
        """The first row of range(count) that is this process's, and the one after its last."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def batch_rows(self, count: int, *, two_domains: bool = False, rank: int | None = None) -> NDArray[np.int64]:
        """The rows of a batch of `count` images that a process works on, ascending.

        Args:
            count: Images B of the batch.
            two_domains: The batch is two halves of different domains: a share has its part of each.
            rank: Whose share; None is this process's.

        Raises:
            TrainingError: A process would have no image.
        """
        rank, domains = self.rank if rank is None else rank, 2 if two_domains else 1
        length = count // domains
        if length < self.size:
            raise TrainingError(
                f"a batch of {count} images has too few for {self.size} processes; start fewer, or raise --batch-size"
            )
        first, stop = length * rank // self.size, length * (rank + 1) // self.size
        return np.concatenate([np.arange(first, stop) + domain * length for domain in range(domains)])

    def gather_batch(self, outputs: Value, count: int, *, two_domains: bool = False) -> Value:
        """Rows of the whole batch from every process's share of them; gradients flow to the own rows only.

        Args:
            outputs: A tensor (B', ...) or a named tuple of such, of this process's share.
            count: Images B of the batch.
            two_domains: As in `batch_rows`.

        Returns:
            The same with (B, ...), in the order of the batch.
        """
        if self.group is None:
            return outputs
        import torch
        import torch.distributed as dist

        if not isinstance(outputs, torch.Tensor):
            parts = (self.gather_batch(part, count, two_domains=two_domains) for part in cast("tuple[Any]", outputs))
            return type(outputs)(*parts)
        shares = [self.batch_rows(count, two_domains=two_domains, rank=rank) for rank in range(self.size)]
        padded = outputs.detach().new_zeros(max(map(len, shares)), *outputs.shape[1:])
        padded[: len(outputs)] = outputs.detach()
        received = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(received, padded, group=self.group)
        whole = outputs.new_empty(count, *outputs.shape[1:])
        for rows, rest in zip(shares, received, strict=True):
            whole[torch.from_numpy(rows)] = rest[: len(rows)]
        own = torch.from_numpy(shares[self.rank]).to(outputs.device)
        return cast(Value, whole.index_copy(0, own, outputs))

    def all_reduce(self, values: Sum, operation: Literal["sum", "max"] = "sum") -> Sum:
        """The sum, or the largest, of a tensor or an array over processes; of all, if this process is alone.

        Arrays of which every process has filled its rows are put together by it: the others' at 0 (or -1, for max).
        """
        if self.group is None:
            return values
        import torch
        import torch.distributed as dist

        tensor = values.clone() if isinstance(values, torch.Tensor) else self._tensor(values)
        dist.all_reduce(tensor, dist.ReduceOp.SUM if operation == "sum" else dist.ReduceOp.MAX, group=self.group)
        return tensor if isinstance(values, torch.Tensor) else tensor.cpu().numpy()

    def broadcast(self, value: Value) -> Value:
        """A value of the main process, to all; the others' is not looked at."""
        if self.group is None:
            return value
        import torch.distributed as dist

        values: list[Any] = [value]
        dist.broadcast_object_list(values, dist.get_global_rank(self.group, 0), group=self.group, device=self._device)
        return cast(Value, values[0])

    def gather_values(self, value: Value) -> list[Value]:
        """One small value of every process, in the order of ranks."""
        if self.group is None:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def arrays_of_each(self, arrays: Arrays) -> Iterator[Arrays]:
        """A tuple of arrays of every process, one process after the other; take all of them."""
        make: Any = type(arrays)._make if hasattr(arrays, "_make") else tuple  # a NamedTuple stays one
        formats = self.gather_values([(array.shape, array.dtype) for array in arrays])
        for rank, given in enumerate(formats):
            own = arrays if rank == self.rank else [np.empty(shape, dtype) for shape, dtype in given]
            yield make([self._broadcast_array(array, rank) for array in own])

    def any_rank(self, wanted: bool) -> bool:
        """Whether any process wants something."""
        return bool(self.all_reduce(np.array([wanted], np.float32))[0])

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.group is not None:
            import torch.distributed as dist

            device = self._device
            dist.barrier(self.group, device_ids=[device.index] if device.type == "cuda" else None)

    def check_same(self, *values: Any) -> None:
        """Refuse, in every process, features (as arrays) or parameters that differ between processes.

        Raises:
            ClusteringError: They differ.
        """
        if self.group is None:
            return
        digest = [
            (value.shape, zlib.crc32(np.ascontiguousarray(value).data)) if isinstance(value, np.ndarray) else value
            for value in values
        ]
        different = [rank for rank, other in enumerate(self.gather_values(digest)) if other != digest]
        if different:  # and so it is in every process: each differs from one at least
            raise ClusteringError(
                f"process {self.rank} of {self.size} was given other features or parameters than {different}; gather "
                "or broadcast them first, so that every process passes the same features of all images"
            )

    def sum_gradients(self, network: "nn.Module") -> None:
        """Let the gradients of a network that Fabric has set up be summed over processes, not averaged.

        Losses are taken over the whole batch, so that every process's gradient is already its part of the sum.
        """
        if self.group is None:
            return
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        def sum_bucket(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:  # type: ignore[name-defined]
            work: Any = dist.all_reduce(bucket.buffer(), group=self.group, async_op=True)
            return cast("torch.futures.Future[Tensor]", work.get_future().then(lambda done: done.value()[0]))

        parallel = getattr(network, "_forward_module", None)
        if isinstance(parallel, DistributedDataParallel):
            parallel.register_comm_hook(None, sum_bucket)

    def _broadcast_array(self, array: NDArray[Any], rank: int) -> NDArray[Any]:
        if self.group is None or array.size == 0:
            return array
        import torch.distributed as dist

        tensor = self._tensor(array)
        dist.broadcast(tensor, dist.get_global_rank(self.group, rank), group=self.group)
        return tensor.cpu().numpy()

    def _tensor(self, array: NDArray[Any]) -> "Tensor":
        """A copy of the array where the group's backend can send it from."""
        import torch

        return torch.tensor(array, device=self._device)

    @property
    def _device(self) -> "torch.device":
        """NCCL sends from a GPU only, the others from main memory."""
        import torch
        import torch.distributed as dist

        return (
            torch.device("cuda", torch.cuda.current_device())
            if dist.get_backend(self.group) == "nccl"
            else torch.device("cpu")
        )


ALONE = ProcessGroup()
"""This process without others."""
