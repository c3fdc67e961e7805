"""A very small trained model, and images with names that nobody should have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidkit.inference import Embedder, load
from reidkit.loop import build_model
from reidkit.runs import RunConfig
from tests.tiny import tiny_config

NAMES = ["a'b\".jpg", "<b>&amp;.jpg", "two\nlines.jpg", "žluťoučký 人.jpg", f"{'x' * 246}.jpg", "[bold]{{ 1 }}.jpg"]


def save_checkpoint(path: Path, config: RunConfig, seed: int = 0) -> Path:
    """What a run keeps of its model; random weights."""
    model = build_model(config.backbone, seed)
    torch.save({"format": 1, "config": config.model_dump_json(), "model": model.state_dict()}, path)
    return path


def draw_images(folder: Path, names: list[str], seed: int = 0) -> list[Path]:
    """Small images of noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(folder / name, quality=95)
    return [folder / name for name in names]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "tiny.pt", tiny_config("synthetic"))


@pytest.fixture(scope="session")
def embedder(checkpoint: Path) -> Embedder:
    return load(checkpoint, device="cpu", precision="32")
