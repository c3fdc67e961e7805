"""Several processes, one computation: each takes a share of the rows, and all end with the same bits as one would.

Everything goes through the caller's `torch.distributed` group; nothing here starts processes or groups.
"""

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ClusteringError

__all__ = ["ALONE", "Processes", "join_processes"]

Value = TypeVar("Value")
Arrays = TypeVar("Arrays", bound=tuple[NDArray[Any], ...])


class Processes(NamedTuple):
    """The processes that share a computation, and which of them this one is; without a group this one is alone.

    All but `share` are collective: every process of the group must call them, in the same order.
    """

    group: Any = None  # torch.distributed.ProcessGroup
    rank: int = 0
    size: int = 1

    def share(self, n: int) -> tuple[int, int]:
        """The first row of range(n) that is this process's, and the one after its last."""
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def exchange(self, value: Value) -> list[Value]:
        """One small value of every process, in the order of ranks."""
        if self.group is None:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def each(self, arrays: Arrays) -> Iterator[Arrays]:
        """A tuple of arrays of every process, one process after the other; take all of them."""
        make: Any = type(arrays)._make if hasattr(arrays, "_make") else tuple  # a NamedTuple stays one
        formats = self.exchange([(array.shape, array.dtype) for array in arrays])
        for rank, given in enumerate(formats):
            own = arrays if rank == self.rank else [np.empty(shape, dtype) for shape, dtype in given]
            yield make([self._broadcast(array, rank) for array in own])

    def _broadcast(self, array: NDArray[Any], rank: int) -> NDArray[Any]:
        if self.group is None or array.size == 0:
            return array
        import torch.distributed as dist

        tensor = self._tensor(array)
        dist.broadcast(tensor, dist.get_global_rank(self.group, rank), group=self.group)
        result: NDArray[Any] = tensor.cpu().numpy()
        return result

    def unite(self, array: NDArray[np.int32]) -> NDArray[np.int32]:
        """Put together an array of which every process has filled its own part and left the rest at -1."""
        if self.group is None:
            return array
        import torch.distributed as dist

        tensor = self._tensor(array)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)
        united: NDArray[np.int32] = tensor.cpu().numpy()
        return united

    def _tensor(self, array: NDArray[Any]) -> Any:
        """The array where the group's backend can send it from: NCCL only from a GPU, the others from main memory."""
        import torch
        import torch.distributed as dist

        device = "cuda" if dist.get_backend(self.group) == "nccl" else "cpu"
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

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
        different = [rank for rank, other in enumerate(self.exchange(digest)) if other != digest]
        if different:  # and so it is in every process: each differs from one at least
            raise ClusteringError(
                f"process {self.rank} of {self.size} was given other features or parameters than {different}; gather "
                "or broadcast them first, so that every process passes the same features of all images"
            )


ALONE = Processes()


def join_processes(group: Any) -> Processes:
    """The processes of a group.

    Args:
        group: A `torch.distributed` process group; None: this process alone.

    Raises:
        ClusteringError: No process group is initialised, or this process is not in the group.
    """
    if group is None:
        return ALONE
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        raise ClusteringError(
            "group= needs an initialised process group; call torch.distributed.init_process_group (torchrun or Fabric "
            "does), or pass group=None to compute in this process alone"
        )
    rank = dist.get_rank(group)
    if rank < 0:
        raise ClusteringError("this process is not in the group; only its members may call with group=")
    return Processes(group, rank, dist.get_world_size(group))
