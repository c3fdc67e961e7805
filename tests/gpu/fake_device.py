"""Tensors with shapes and devices and without numbers: what a machine without a GPU can check of one with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CUDA", "HostReads", "fake_cuda", "move", "on_cuda"]

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten


class HostReads(TorchDispatchMode):
    """Answers the host's reads of tensors without numbers: a number is 1, a mask True everywhere, all values differ."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return torch.ones((), dtype=args[0].dtype, device="meta").dtype.is_floating_point * 0.0 + 1
        if func is aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is aten._unique2.default:
            rows = args[0].new_empty(args[0].numel())
            return rows, rows.new_empty(args[0].shape, dtype=torch.int64), torch.empty_like(rows, dtype=torch.int64)
        if func in (aten.index.Tensor, aten.index_put_.default):
            args = (args[0], [_as_rows(index) for index in args[1]], *args[2:])
        return func(*args, **kwargs)


def _as_rows(index: Tensor | None) -> Tensor | None:
    """A mask as the numbers of all its rows."""
    if index is None or index.dtype != torch.bool:
        return index
    return torch.empty_like(index, dtype=torch.int64)


@contextmanager
def fake_cuda(monkeypatch: Any) -> Iterator[None]:
    """Compute on `device="cuda"` without one: an operation on tensors of two devices raises, as it does there."""

    def numpy(tensor: FakeTensor) -> NDArray[Any]:
        assert tensor.device.type == "cpu", "a tensor on the GPU was read without .cpu()"
        return np.zeros(tensor.shape, torch.empty(0, dtype=tensor.dtype).numpy().dtype)

    with monkeypatch.context() as patch:
        patch.setattr(FakeTensor, "numpy", numpy, raising=False)
        with FakeTensorMode(allow_non_fake_inputs=True), HostReads():
            yield


def on_cuda(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An input on the GPU."""
    return torch.empty(shape, dtype=dtype, device=CUDA)


def move(module: nn.Module) -> nn.Module:
    """Move parameters and buffers to the GPU, and nothing else, as `Module.to` does."""
    for part in module.modules():
        for name, parameter in [*part.named_parameters(recurse=False)]:
            setattr(part, name, nn.Parameter(parameter.detach().to(CUDA), parameter.requires_grad))
        for name, buffer in [*part.named_buffers(recurse=False)]:
            setattr(part, name, buffer.to(CUDA))
    return module
