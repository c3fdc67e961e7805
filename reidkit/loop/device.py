"""Devices, processes and mixed precision, through Fabric."""

import atexit
import faulthandler
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from threading import Event
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.distributed import is_torchelastic_launched
from torch.nn.parallel import DistributedDataParallel

from reidkit.backbones import EmbeddingModel
from reidkit.cpu import cpu_has_bf16
from reidkit.errors import ConfigError, TrainingError
from reidkit.runs import Precision

__all__ = [
    "compile_backbones",
    "create_fabric",
    "enough_memory",
    "finish_together",
    "place",
    "resolve_device",
    "resolve_precision",
]

_PATIENCE = timedelta(hours=6)  # processes wait for one another while one of them clusters
_FAREWELL_SECONDS = 15
_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def create_fabric(device: str, precision: Precision) -> Fabric:
    """A Fabric on one device, or of all the processes that torchrun has started, a device each.

    The process group that joins them is the caller's, if there is one, or else made here and left when the process
    ends: in order after `finish_together`, and without waiting for anyone after an error.

    Raises:
        ConfigError: The device does not exist, cannot compute in the precision, or is one for several processes.
    """
    launched = is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
    if launched and ":" in device:
        raise ConfigError(f"device={device!r} is one device for several processes; leave it out, or choose cuda or cpu")
    kind, _, index = resolve_device(device).partition(":")
    plugin: Any = _PRECISIONS[resolve_precision(kind, precision)]
    if not launched:
        return Fabric(accelerator=kind, devices=[int(index)] if kind == "cuda" else 1, precision=plugin)
    local, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    # Statistics of BatchNorm are those of the whole batch in every process: there is nothing to send around.
    newer = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    buffers: Any = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    strategy = DDPStrategy(timeout=_PATIENCE, **buffers)
    fabric = Fabric(accelerator=kind, devices=local, num_nodes=total // local, strategy=strategy, precision=plugin)
    _join(fabric, kind)
    return fabric


def finish_together() -> None:
    """Say that the work of all processes is done, and that none is left waiting for another."""
    _finished.set()


_finished = Event()


def _join(fabric: Fabric, kind: str) -> None:
    """Launch a Fabric, and make sure that a process group that this makes is left once."""
    _finished.clear()
    if not dist.is_initialized():
        if kind == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
        atexit.register(_leave)
    fabric.launch()


def _leave() -> None:
    """Leave the process group at the end of the process.

    NCCL closes its connections by all processes at once. After an error the others wait for this one somewhere else,
    and torchrun stops them as soon as it has ended: it must, whatever NCCL waits for.
    """
    if not dist.is_initialized():
        return
    if _finished.is_set():
        dist.destroy_process_group()
    else:
        faulthandler.dump_traceback_later(_FAREWELL_SECONDS, exit=True, file=2)


def place(fabric: Fabric, model: nn.Module) -> None:
    """Put a model on the device, and let it attend there by what is fastest.

    PyTorch's fused attention is made for GPUs and long sequences. On CPUs its backward pass takes 2 to 8 times as long
    as the plain product, softmax, product for the 9 to 197 tokens of these models.
    """
    fabric.to_device(model)
    if fabric.device.type == "cpu":
        modules: Iterable[Any] = model.modules()
        for module in modules:
            if hasattr(module, "fused_attn"):  # timm's name
                module.fused_attn = False


@contextmanager
def enough_memory(work: str, remedy: str) -> Iterator[None]:
    """Explain for which work a GPU has too little memory, and what would fit.

    Args:
        work: The work, with the size of its batches.
        remedy: What to change.

    Raises:
        TrainingError: The memory is exhausted.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"the GPU's memory is too small for {work} ({reason}); {remedy}") from error


def compile_backbones(module: nn.Module) -> None:
    """Let every backbone in a module be compiled when it is used first; names and states of weights stay the same."""
    for part in module.modules():
        if isinstance(part, EmbeddingModel):
            part.backbone.compile()


def resolve_device(device: str) -> str:
    """`cpu` or `cuda:N` for a device as users name it; `auto` is the first GPU, or else the processor.

    Raises:
        ConfigError: The device does not exist.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdigit())):
        raise ConfigError(f"device={device!r} is unknown; choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={device!r} does not exist: PyTorch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices; choose auto or cpu, or mend the driver"
        )
    return kind if kind == "cpu" else f"cuda:{int(index or 0)}"


def resolve_precision(kind: str, precision: Precision) -> str:
    """`32`, `bf16` or `16` for a `cpu` or `cuda` device."""
    if precision == "auto":
        if kind == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"
        return "bf16" if cpu_has_bf16() else "32"
    if precision == "16" and kind == "cpu":
        raise ConfigError("precision=16 needs a CUDA device; on the CPU choose bf16 or 32")
    return precision
