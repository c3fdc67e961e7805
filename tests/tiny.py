"""A run that takes seconds: a few generated people, a very small ViT-ICS."""

from pathlib import Path
from typing import Any

from reidkit.runs import RunConfig, RunFolder, resolve_config
from reidkit.synthetic import SyntheticConfig, make_synthetic

SETTINGS: dict[str, Any] = {
    "recipe": {"name": "test"},
    "backbone": {"name": "vit_tiny_ics", "image_size": (32, 16), "embed_dim": 32, "depth": 1, "num_heads": 2},
    "augmentation": {"pad": 2},
    "sampler": {"batch_size": 16, "instances": 4},
    "clustering": {"eps": 0.5, "k1": 8, "k2": 2, "min_samples": 2},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "training": {"epochs": 2, "iterations": 3, "device": "cpu", "precision": "32"},
    "evaluation": {"every": 1},
}


def tiny_config(target: Path | str, **settings: Any) -> RunConfig:
    """Settings of a run that takes about a second; sections of `settings` override them."""
    return resolve_config([SETTINGS, {"data": {"target": str(target)}}, settings])


def tiny_people(folder: Path, *, train_identities: int = 8, seed: int = 0) -> Path:
    """A few training identities and four test identities."""
    config = SyntheticConfig(
        train_identities=train_identities,
        test_identities=4,
        cameras=3,
        images_per_camera=2,
        distractors=4,
        height=32,
        width=16,
        seed=seed,
    )
    make_synthetic(folder, config, workers=1)
    return folder


def tiny_run(folder: Path, config: RunConfig) -> RunFolder:
    """A new run folder."""
    return RunFolder.create(folder, config)
