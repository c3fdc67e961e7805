"""A trained model as a function."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import reidkit
from reidkit.datasets import Split, normalise
from reidkit.errors import ConfigError, DataError
from reidkit.inference import Embedder
from reidkit.loop import Progress, create_fabric, evaluate_model, extract, load_model, read_split
from tests.inference.conftest import NAMES, draw_images, save_checkpoint
from tests.tiny import tiny_config


def test_features_are_those_of_training_in_every_form_and_batch(checkpoint: Path, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, NAMES)
    split = Split(tuple(paths), np.full(6, -1), np.full(6, -1))
    trained = load_model(checkpoint)
    images = read_split(split, "test", (32, 16), strict=True, progress=Progress())
    expected = extract(create_fabric("cpu", "32"), trained.model, images, trained.config, Progress())
    embedder = reidkit.load(checkpoint, device="cpu", precision="32")
    assert (embedder.image_size, embedder.feature_dim) == ((32, 16), 32)
    pictures = [Image.open(path) for path in paths]
    arrays = [np.asarray(picture) for picture in pictures]
    tensors = torch.stack([torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays])
    mixed = [str(paths[0]), pictures[1], arrays[2], tensors[3], paths[4], pictures[5]]
    forms: list[Any] = [paths, pictures, arrays, np.stack(arrays), tensors, mixed]
    for given in forms:
        features = embedder.embed(given, batch_size=4)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-6)
    single = embedder.embed(paths[3])
    assert single.shape == (1, 32)
    np.testing.assert_allclose(single, expected[3:4], atol=1e-6)
    assert embedder.embed([]).shape == (0, 32)


def test_the_settings_of_the_checkpoint_are_used(tmp_path: Path, people: Path) -> None:
    settings = {"mean": (0.2, 0.3, 0.4), "std": (0.1, 0.2, 0.3)}
    config = tiny_config("synthetic", data=settings, evaluation={"flip": True, "batch_size": 3})
    path = save_checkpoint(tmp_path / "tiny.pt", config)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 16), dtype=np.uint8))
    model = load_model(path).model.eval()
    with torch.inference_mode():
        both = [model.embed(normalise(views, *settings.values())) for views in (pixels, pixels.flip(3))]
    expected = torch.nn.functional.normalize(both[0] + both[1]).numpy()
    embedder = reidkit.load(path, device="cpu", precision="32")
    np.testing.assert_allclose(embedder.embed(pixels), expected, atol=1e-6)


def test_cameras_reach_a_model_that_knows_them(tmp_path: Path) -> None:
    config = tiny_config("synthetic", backbone={"sie_cameras": 2})
    embedder = reidkit.load(save_checkpoint(tmp_path / "sie.pt", config), device="cpu", precision="32")
    pixels = torch.randint(0, 256, (2, 3, 32, 16), dtype=torch.uint8)
    unknown, known = embedder.embed(pixels), embedder.embed(pixels, cameras=[0, -1])
    assert np.abs(known[0] - unknown[0]).max() > 1e-4
    np.testing.assert_allclose(known[1], unknown[1], atol=1e-6)
    with pytest.raises(ConfigError, match="camera 2"):
        embedder.embed(pixels, cameras=[2, 0])
    with pytest.raises(DataError, match="needed are 2"):
        embedder.embed(pixels, cameras=[0])


def test_a_stream_tells_of_unreadable_images_and_goes_on(embedder: Embedder, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, [f"{number}.png" for number in range(5)])
    paths[1:1] = [tmp_path / "absent.png"]
    paths[3].write_text("no image")
    batches = list(embedder.stream(paths, batch_size=2))
    assert [batch.readable.tolist() for batch in batches] == [[True, False], [True, False], [True, True]]
    assert [len(batch.problems) for batch in batches] == [1, 1, 0]
    good = [path for row, path in enumerate(paths) if row not in (1, 3)]
    found = np.concatenate([batch.features for batch in batches])
    np.testing.assert_allclose(found, embedder.embed(good), atol=1e-6)
    with pytest.raises(DataError, match=r"absent\.png cannot be read"):
        embedder.embed(paths)


def test_a_stream_that_is_left_early_ends_its_threads(embedder: Embedder, tmp_path: Path) -> None:
    paths = draw_images(tmp_path, ["a.png"]) * 2000
    stream = embedder.stream(paths, batch_size=1)
    assert next(stream).features.shape == (1, 32)
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_batch_sizes_below_one_are_refused(embedder: Embedder) -> None:
    with pytest.raises(ConfigError, match="batch_size=0 is below 1"):
        embedder.embed([], batch_size=0)


def test_it_is_the_feature_that_evaluation_ranks_by(checkpoint: Path, people: Path, embedder: Embedder) -> None:
    from reidkit.datasets import load_dataset
    from reidkit.evaluation import evaluate_ranking

    data, trained = load_dataset(str(people)), load_model(checkpoint)
    query, gallery = (
        read_split(split, "x", (32, 16), strict=True, progress=Progress()) for split in (data.query, data.gallery)
    )
    fabric = create_fabric("cpu", "32")
    expected, *_ = evaluate_model(fabric, trained.model, query, gallery, trained.config, Progress())
    result = evaluate_ranking(
        embedder.embed(data.query.paths),
        embedder.embed(data.gallery.paths),
        query_ids=data.query.identities,
        gallery_ids=data.gallery.identities,
        query_cameras=data.query.cameras,
        gallery_cameras=data.gallery.cameras,
    )
    assert 100 * result.mAP == pytest.approx(expected["mAP"])
