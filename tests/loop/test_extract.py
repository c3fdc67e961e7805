from pathlib import Path

import numpy as np
import torch

from reidkit.datasets import load_dataset, normalise
from reidkit.loop import Progress, build_model, create_fabric, extract, read_split
from tests.tiny import tiny_config


def test_batches_and_the_mode_of_the_model_change_nothing(people: Path) -> None:
    config = tiny_config(people)
    model = build_model(config.backbone, seed=0)
    images = read_split(load_dataset(str(people)).query, "query", (32, 16), strict=True, progress=Progress())
    fabric = create_fabric("cpu", "32")
    features = extract(fabric, model, images, config, Progress())
    assert model.training
    with torch.inference_mode():
        model.eval()
        expected = model.embed(normalise(torch.from_numpy(images.pixels[:].copy()), config.data.mean, config.data.std))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    small = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch_size": 3})})
    np.testing.assert_allclose(extract(fabric, model, images, small, Progress()), features, atol=1e-6)


def test_a_seed_decides_the_weights() -> None:
    config = tiny_config("synthetic")
    first, second, other = (build_model(config.backbone, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
