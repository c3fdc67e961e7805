"""The model of a run: backbone, neck, and the weights it starts from or was trained to."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
from reidkit.runs import RunConfig

__all__ = ["TrainedModel", "build_model", "checkpoint_file", "inherited_settings", "load_model"]

logger = logging.getLogger(__name__)

_WITH_NECK = ("reidkit", "usl")
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # what published DINO teachers see


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
        load_weights(model, checkpoint_file(Path(config.pretrained)))
        logger.info("weights loaded from %s", config.pretrained)
    return model


def checkpoint_file(path: Path) -> Path:
    """A checkpoint as it was named, or that of a run folder: the best one, else the last."""
    if not path.is_dir():
        return path
    candidates = [path / "checkpoints" / name for name in ("best.pt", "last.pt")]
    return next((file for file in candidates if file.exists()), candidates[0])


def inherited_settings(pretrained: str) -> dict[str, Any]:
    """Settings that a run inherits from the run whose weights it starts from: architecture, normalisation, no warm-up.

    Args:
        pretrained: As in the settings of a backbone.

    Returns:
        Settings by section; nothing for weights of others, whose recipes know what belongs to them.

    Raises:
        CheckpointError: The file is unreadable or unsafe, or of another version.
    """
    file = checkpoint_file(Path(pretrained)) if pretrained and not is_published(pretrained) else None
    if file is None or not file.exists():
        return {}
    config = _stored_config(file, read_checkpoint(file))
    if config is None:
        return {}
    backbone = config.backbone.model_dump(exclude={"pretrained", "drop_path", "sie_cameras"})
    return {
        "backbone": backbone,
        "data": {"mean": config.data.mean, "std": config.data.std},
        "warmup": {"epochs": 0},
    }


def _stored_config(file: Path, content: Mapping[str, Any]) -> RunConfig | None:
    """The settings of the run that wrote a checkpoint, or None for one of others."""
    stored = content.get("config")
    if not isinstance(stored, str):
        return None
    try:
        return RunConfig.model_validate_json(stored)
    except ValidationError as error:
        raise CheckpointError(
            f"{file} was written by another version of reidkit: its settings are not understood ({error})"
        ) from None


def load_model(path: Path) -> TrainedModel:
    """Load a run folder's best model, one of its checkpoints, or a checkpoint of another project.

    Our own checkpoints carry their settings. Of others the architecture is read off the weights; their feature is
    taken after the neck where they have a trained one (USL), before it elsewhere.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or not of a known model.
    """
    path = checkpoint_file(path)
    content = read_checkpoint(path)
    config = _stored_config(path, content)
    if config is None:
        try:
            config = RunConfig(backbone=BackboneConfig(**infer_architecture(content)))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    model = build_model(config.backbone.model_copy(update={"pretrained": ""}), config.seed)
    report = load_weights(model, path)
    if report.layout == "dino":
        config = config.model_copy(update={"data": config.data.model_copy(update=_IMAGENET)})
    if report.layout not in _WITH_NECK or content.get("retrieval") == "before_neck":
        model.retrieval = "before_neck"
    return TrainedModel(model, config, path)
