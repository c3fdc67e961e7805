"""Names, suffixes and promises of the formats."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BATCH_SIZES", "GRAPHS", "METADATA_FILE", "SUFFIXES", "TOLERANCE", "Format", "Runner"]

Format = Literal["onnx", "safetensors", "torchscript", "transreid-ssl"]
"""What an exported file is."""

Runner = Callable[[Tensor], NDArray[np.float32]]
"""Images (B, 3, H, W), RGB in [0, 1], to features (B, D), as a reader of the file computes them."""

TOLERANCE = 1e-4
"""Largest difference of any number of a feature between the checkpoint and an exported file."""

BATCH_SIZES = (1, 5, 16)
"""Images in a batch at which an exported file is verified."""

METADATA_FILE = "reidkit.json"
"""The extra file of a TorchScript archive that holds the metadata."""

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "safetensors": (".safetensors",),
    "torchscript": (".pt", ".ts", ".torchscript"),
    "transreid-ssl": (".pth", ".tar", ".pt"),
}
"""The first is that of a file without a name."""

GRAPHS = ("onnx", "torchscript")
"""Formats that hold the model and the normalisation as one graph; the others hold weights."""
