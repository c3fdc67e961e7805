"""The model of a run: backbone, neck, and the weights it starts from or was trained to."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError

from reidkit.backbones import (
    BackboneConfig,
    EmbeddingModel,
    create_backbone,
    infer_architecture,
    is_published,
    load_weights,
    read_checkpoint,
)
from reidkit.errors import CheckpointError
from reidkit.loop.config import RunConfig

__all__ = ["TrainedModel", "build_model", "load_model"]

logger = logging.getLogger(__name__)

_WITH_NECK = ("reidkit", "usl")


class TrainedModel(NamedTuple):
    """A model from a checkpoint and the settings that it works with."""

    model: EmbeddingModel
    config: RunConfig
    path: Path
    """The checkpoint's file."""


def build_model(config: BackboneConfig, seed: int) -> EmbeddingModel:
    """Create backbone and neck from a seed and load the pre-trained weights that the settings name.

    Raises:
        CheckpointError: The weights are missing or of another model.
        ConfigError: The backbone is unknown.
    """
    published = config.pretrained if is_published(config.pretrained) else ""
    stored = config.pretrained and not published
    if stored and not Path(config.pretrained).exists():
        raise CheckpointError(
            f"pre-trained weights {config.pretrained} were not found (looked in {Path.cwd()}); those of the paper's "
            "recipes are published by its authors on GitHub: see the project page of TransReID-SSL (arXiv 2111.12084). "
            "Give their path with --pretrained PATH, or go on from random weights with --pretrained none (in a file of "
            'settings: pretrained = "" under [backbone])'
        )
    torch.manual_seed(seed)
    model = EmbeddingModel(create_backbone(**config.model_dump(exclude={"pretrained"}), pretrained=published))
    if stored:
        load_weights(model, config.pretrained)
        logger.info("weights loaded from %s", config.pretrained)
    return model


def load_model(path: Path) -> TrainedModel:
    """Load a run folder's best model, one of its checkpoints, or a checkpoint of another project.

    Our own checkpoints carry their settings. Of others the architecture is read off the weights; their feature is
    taken after the neck where they have a trained one (USL), before it elsewhere.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or not of a known model.
    """
    if path.is_dir():
        candidates = [path / "checkpoints" / name for name in ("best.pt", "last.pt")]
        path = next((file for file in candidates if file.exists()), candidates[0])
    content = read_checkpoint(path)
    stored = content.get("config")
    if isinstance(stored, str):
        try:
            config = RunConfig.model_validate_json(stored)
        except ValidationError as error:
            raise CheckpointError(
                f"{path} was written by another version of reidkit: its settings are not understood ({error})"
            ) from None
    else:
        config = RunConfig(backbone=BackboneConfig(**infer_architecture(content)))
    model = build_model(config.backbone.model_copy(update={"pretrained": ""}), config.seed)
    report = load_weights(model, path)
    if report.layout not in _WITH_NECK or content.get("retrieval") == "before_neck":
        model.retrieval = "before_neck"
    return TrainedModel(model, config, path)
