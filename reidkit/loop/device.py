"""Devices and mixed precision, through Fabric."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from reidkit.errors import ConfigError
from reidkit.loop.config import Precision
from reidkit.processor import cpu_has_bf16

__all__ = ["create_fabric", "place", "resolve_device", "resolve_precision"]

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def create_fabric(device: str, precision: Precision) -> Fabric:
    """A Fabric on one device.

    Raises:
        ConfigError: The device does not exist, or cannot compute in the precision.
    """
    kind, _, index = resolve_device(device).partition(":")
    devices: Any = [int(index)] if kind == "cuda" else 1
    plugin: Any = _PRECISIONS[resolve_precision(kind, precision)]
    return Fabric(accelerator=kind, devices=devices, precision=plugin)


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
