"""ONNX and TorchScript: the normalisation and the model as one graph with its weights."""

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import Colour
from reidkit.errors import CheckpointError
from reidkit.loop import TrainedModel

__all__ = ["METADATA_FILE", "Retriever", "Runner", "encode_onnx", "encode_torchscript", "open_onnx", "open_torchscript"]

Runner = Callable[[Tensor], NDArray[np.float32]]
"""Images (B, 3, H, W), RGB in [0, 1], to features (B, D), as a reader of the file computes them."""

METADATA_FILE = "reidkit.json"
"""The extra file of a TorchScript archive that holds the metadata."""


class Retriever(nn.Module):
    """Retrieval features of images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: EmbeddingModel, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D), L2-normalised, of images (B, 3, H, W)."""
        return self.model.embed((images - self.mean) / self.std)


def encode_onnx(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    """Encode a model as ONNX, its metadata as `metadata_props`."""
    from onnx import helper

    def export(retriever: nn.Module, example: Tensor) -> Any:
        return torch.onnx.export(
            retriever,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )

    model = _export(trained, "onnx", export).model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]  # the exporter leaves its stack traces there, with the paths of this machine
    helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def open_onnx(file: Path, _: TrainedModel) -> Runner:
    """Open an ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["features"], {"images": images.numpy()})[0]


def encode_torchscript(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    """Encode a model as TorchScript, its metadata as JSON in the extra file `METADATA_FILE`."""
    file = io.BytesIO()
    trace: Callable[..., Any] = torch.jit.trace
    with _without_warnings():
        traced = _export(trained, "torchscript", lambda *graph: trace(*graph, check_trace=False))
        torch.jit.save(traced, file, _extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    return file.getvalue()


def open_torchscript(file: Path, _: TrainedModel) -> Runner:
    """Open a TorchScript file on the processor."""
    with _without_warnings():
        module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    return lambda images: module(images).numpy()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress PyTorch's advice to leave TorchScript, and its notes on checks of shapes, which are fixed here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


def _export(trained: TrainedModel, file_format: str, exporter: Callable[[nn.Module, Tensor], Any]) -> Any:
    """Call an exporter of PyTorch with the graph and an example batch; it does not support all models of timm."""
    retriever = Retriever(trained.model, trained.config.data.mean, trained.config.data.std).eval()
    example = torch.zeros(2, 3, *trained.model.image_size)  # the size of a batch of one would be taken for a constant
    try:
        return exporter(retriever, example)
    except Exception as error:  # of any kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"PyTorch could not export {trained.config.backbone.name!r} of {trained.path} as {file_format} ({reason}); "
            "take another format"
        ) from error
