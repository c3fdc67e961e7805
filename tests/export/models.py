"""Run folders with a tiny model, and the features that an export of it must give."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidkit.backbones import EmbeddingModel, create_backbone
from reidkit.export.graphs import METADATA_FILE
from reidkit.runs import resolve_config
from tests.backbones.golden_weights import fill

__all__ = ["MEAN", "SIZE", "STD", "TINY", "expected", "load_torchscript", "random_images", "save"]

SIZE = (32, 16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = {"name": "vit_tiny_ics", "image_size": SIZE, "embed_dim": 64, "depth": 1, "num_heads": 1}


def save(
    folder: Path,
    *,
    backbone: dict[str, Any] = TINY,
    retrieval: str = "after_neck",
    target: str = "absent",
    change: Callable[[EmbeddingModel], None] = lambda _: None,
) -> tuple[Path, EmbeddingModel]:
    """A run folder with a best model, as a run leaves it, and that model."""
    model = EmbeddingModel(create_backbone(**backbone)).eval()
    fill(model)
    change(model)
    config = resolve_config([{"backbone": backbone, "data": {"target": target, "mean": MEAN, "std": STD}}])
    history = [{"epoch": 0, "mAP": 20.0}, {"epoch": 3, "mAP": 62.5}, {"epoch": 4}]
    state = {"model": model.state_dict(), "retrieval": retrieval, "config": config.model_dump_json()}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({**state, "history": history}, folder / "checkpoints" / "best.pt")
    return folder, model


def expected(model: EmbeddingModel, images: Tensor, retrieval: str = "after_neck") -> NDArray[np.float32]:
    """Features by their definition."""
    normalised = torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    with torch.inference_mode():
        feature = model.backbone(normalised)
        feature = model.bottleneck(feature) if retrieval == "after_neck" else feature
    units: NDArray[np.float32] = (feature / feature.norm(dim=1, keepdim=True)).numpy()
    return units


def random_images(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))


def load_torchscript(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    files = {METADATA_FILE: ""}
    load: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit")
        module = load(path, _extra_files=files)
    return module, json.loads(files[METADATA_FILE])
