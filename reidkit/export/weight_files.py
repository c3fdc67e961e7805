"""Weights alone: safetensors for reidkit and others, and the layout of TransReID-SSL's public code."""

import io
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from reidkit.backbones import NECK, EmbeddingModel, load_weights, read_checkpoint, to_supervised_layout, to_usl_layout
from reidkit.errors import CheckpointError
from reidkit.export.graphs import Retriever, Runner
from reidkit.loop import TrainedModel, build_model, load_model
from reidkit.runs import RunConfig

__all__ = ["encode_safetensors", "encode_transreid", "open_safetensors", "open_transreid"]


def encode_safetensors(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    """Encode weights as safetensors, with the metadata in `__metadata__`."""
    state = {name: tensor.contiguous() for name, tensor in _used_weights(trained.model).items()}
    return bytes(safetensors.torch.save(state, dict(metadata)))


def open_safetensors(file: Path, trained: TrainedModel) -> Runner:
    """Build the model from the file's own metadata."""
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    model = build_model(RunConfig.model_validate_json(metadata["config"]).backbone, trained.config.seed)
    load_weights(model, file)
    if metadata["retrieval"] == "before_neck":
        model.retrieval = "before_neck"
    return _run_weights(file, trained, model)


def encode_transreid(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    """Encode weights as TransReID-SSL's USL runs save them, or its supervised runs for a feature before the neck."""
    file = io.BytesIO()
    if trained.model.retrieval == "after_neck":
        history = read_checkpoint(trained.path).get("history") or [{"epoch": 0}]
        best = max((record["mAP"] for record in history if "mAP" in record), default=0.0) / 100
        torch.save(to_usl_layout(trained.model, epoch=history[-1]["epoch"], best_map=best) | dict(metadata), file)
    else:
        torch.save(to_supervised_layout(trained.model), file)
    return file.getvalue()


def open_transreid(file: Path, trained: TrainedModel) -> Runner:
    """Open a file in TransReID-SSL's layout."""
    return _run_weights(file, trained, load_model(file).model)


def _used_weights(model: EmbeddingModel) -> dict[str, Tensor]:
    """All weights but a neck that retrieval does not use: without one, readers take the feature before it."""
    used = model.retrieval == "after_neck"
    return {name: tensor for name, tensor in model.state_dict().items() if used or not name.startswith(NECK)}


def _run_weights(file: Path, trained: TrainedModel, model: EmbeddingModel) -> Runner:
    """Check that a model read back has the same weights, which its features alone do not show."""
    read = model.eval().state_dict()
    for name, tensor in _used_weights(trained.model).items():
        if not torch.equal(tensor, read[name]):
            raise CheckpointError(f"{name} of {trained.path} is not the same when read back from {file}; report this")
    retriever = Retriever(model, trained.config.data.mean, trained.config.data.std)
    return lambda images: retriever(images).numpy()
