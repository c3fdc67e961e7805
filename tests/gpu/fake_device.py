"""Tensors with shapes and devices and without numbers: what a machine without a GPU can check of one with it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CUDA", "check", "fake_cuda", "host_reads", "move"]

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten


class _HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers the host's reads of tensors without numbers: a number is 1, a mask True everywhere, all values differ."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (aten.item.default, aten._local_scalar_dense.default) and _numberless(args[0]):
            return 1.0 if args[0].is_floating_point() else args[0].dtype == torch.bool or 1
        if func is aten._unique2.default and _numberless(args[0]):
            values = args[0].flatten()
            return values, torch.empty_like(args[0], dtype=torch.int64), torch.empty_like(values, dtype=torch.int64)
        if func in (aten.index.Tensor, aten.index_put_.default) and _numberless(args[0]):
            args = (args[0], [_as_rows(index) for index in args[1]], *args[2:])
        return func(*args, **(kwargs or {}))


def _numberless(tensor: Tensor) -> bool:
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def _as_rows(index: Tensor | None) -> Tensor | None:
    """A mask as the numbers of all its rows."""
    if index is None or index.dtype != torch.bool:
        return index
    return torch.empty_like(index, dtype=torch.int64)


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Compute on `device="cuda"` without one: an operation on tensors of two devices raises, as it does there."""

    def numpy(tensor: FakeTensor) -> NDArray[Any]:
        assert tensor.device.type == "cpu", "a tensor on the GPU is read without .cpu()"
        return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))

    reading = patch.object(FakeTensor, "numpy", numpy, create=True)
    with reading, FakeTensorMode(allow_non_fake_inputs=True), _HostReads():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def host_reads() -> Iterator[None]:
    """Answer what the host reads from tensors on the device `meta`, which also knows no autocast."""
    read, found = Tensor.tolist, torch.autocast

    def tolist(tensor: Tensor) -> Any:
        return torch.ones(tensor.shape).tolist() if tensor.is_meta else read(tensor)

    def autocast(kind: str, **options: Any) -> Any:
        return nullcontext() if kind == "meta" else found(kind, **options)

    with patch.object(Tensor, "tolist", tolist), patch("torch.autocast", autocast), _HostReads():  # type: ignore[no-untyped-call]
        yield


def move(module: Any) -> Any:
    """Move parameters and buffers to the GPU, and nothing else, as `Module.to` does."""
    for part in module.modules():
        for name, parameter in [*part.named_parameters(recurse=False)]:
            setattr(part, name, nn.Parameter(parameter.detach().to(CUDA), parameter.requires_grad))
        for name, buffer in [*part.named_buffers(recurse=False)]:
            setattr(part, name, buffer.to(CUDA))
    return module


def check(value: Tensor, *shape: int) -> None:
    """Check that a result is on the GPU."""
    assert value.device == CUDA
    assert value.shape == shape
