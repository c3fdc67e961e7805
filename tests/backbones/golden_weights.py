"""The weights and images behind the golden features, and the golden lists of parameters."""

import json
from typing import TypedDict
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from tests.conftest import GOLDEN


class Shape(TypedDict):
    embed_dim: int
    depth: int
    num_heads: int


TINY = Shape(embed_dim=32, depth=2, num_heads=2)
"""A ViT small enough to make hundreds of."""


def fill(model: nn.Module) -> None:
    """Set every weight from its name, so that any implementation with the same names has the same weights."""
    filled = {name: _value(name, tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(filled)


def _value(name: str, tensor: Tensor) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return tensor
    a = np.random.RandomState(crc32(name.encode()) & 0x7FFFFFFF).standard_normal(tuple(tensor.shape))
    a = a.astype(np.float32)
    if name.endswith("running_var"):
        a = 0.5 + 0.5 * np.abs(a)
    elif name.endswith("running_mean"):
        a = 0.1 * a
    elif a.ndim == 1:
        a = 1 + 0.1 * a if name.endswith("weight") else 0.05 * a
    elif a.ndim == 3:
        a = 0.02 * a
    else:
        a = a / np.sqrt(np.prod(a.shape[1:]))
    return torch.from_numpy(a.astype(np.float32))


def images(seed: int, batch: int, size: tuple[int, int]) -> Tensor:
    pixels = np.random.RandomState(seed).standard_normal((batch, 3, *size))
    return torch.from_numpy(pixels.astype(np.float32))


def listed(model: nn.Module) -> list[tuple[str, list[int]]]:
    """Names and shapes of the state dict, in order."""
    return [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()]


def golden_keys(stem: str) -> tuple[list[tuple[str, list[int]]], int | None]:
    """Names and shapes of a golden state dict, in order, and the number of parameters where it is recorded."""
    keys = json.loads((GOLDEN / f"{stem}.keys.json").read_text())
    return list(keys.get("state_dict", keys).items()), keys.get("parameters")
