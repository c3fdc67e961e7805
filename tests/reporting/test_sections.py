"""Sections of the page that need a trained model, features or rank lists."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reidkit.backbones import EmbeddingModel, create_backbone
from reidkit.datasets import Split
from reidkit.evaluation import evaluate_ranking
from reidkit.reporting import write_report
from reidkit.reporting.attention import attention_of
from reidkit.runs import RunFolder
from reidkit.runs.rankings import RANKINGS, save_rankings
from tests.naive import unit_vectors
from tests.reporting.folders import add_labels, make_images, make_run, records
from tests.reporting.test_report_page import Page
from tests.tiny import tiny_config

SIZE = (32, 16)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run with features, rank lists and a checkpoint of an untrained model; 32 images, noise among them."""
    images = make_images(tmp_path / "images", [f"{index:02d}.png" for index in range(32)], (16, 32))
    folder = make_run(tmp_path / "run", records())
    labels = np.repeat([0, 1, 2, -1], 8)
    add_labels(folder, 4, labels, images)
    rng = np.random.default_rng(0)
    features = unit_vectors(rng.normal(size=(4, 8))[labels] + 0.3 * rng.normal(size=(32, 8)))
    split = Split(tuple(images), labels + 1, np.arange(32) % 4)
    run = RunFolder(folder)
    run.save_features(features, split)
    precisions = evaluate_ranking(  # every image a query and in the gallery
        features,
        features,
        query_ids=split.identities,
        gallery_ids=split.identities,
        query_cameras=split.cameras,
        gallery_cameras=split.cameras,
    ).average_precisions
    save_rankings(run, precisions, features, features, split, split)
    (folder / "checkpoints").mkdir()
    config = tiny_config("people")
    model = EmbeddingModel(create_backbone(**config.backbone.model_dump(exclude={"pretrained"})))
    run.save_checkpoint("best", {"model": model.state_dict(), "config": config.model_dump_json()})
    return run


def test_the_whole_page(run: RunFolder) -> None:
    page = Page(write_report(run.path))
    for words in (
        "The tightest clusters",
        "The loosest clusters",
        "The most mixed in cameras",
        "Suspected merges",
        "Suspected splits",
        "32 images; projected on their first two principal components",
        "of the pairs in one cluster are of two cameras",
        "32 of 32 queries have a match in the gallery",
        "The best queries",
        "The median queries",
        "The worst queries",
        "Where the class token looks in the last block",
    ):
        assert words in page.words
    places = [span["class"] for span in page.all("span") if span.get("class", "").startswith("place")]
    assert places.count("place query") == 32
    assert places.count("place right") + places.count("place wrong") == 320
    assert page.words.count("✓") == places.count("place right") + 1
    assert page.words.count("✗") == places.count("place wrong") + 1
    assert len([image for image in page.all("img") if image["alt"].startswith("attention on")]) == 8
    assert all(image["loading"] == "lazy" for image in page.all("img"))
    assert page.source.count("{ background-image: url(data:image/jpeg;base64,") == 1
    assert 'class="empty"' not in page.source


def test_queries_without_a_match_are_no_lists(run: RunFolder) -> None:
    with np.load(run.path / RANKINGS) as stored:
        arrays = dict(stored) | {"average_precisions": np.full(32, np.nan, np.float32)}
    np.savez(run.path / RANKINGS, **arrays)
    assert "No query has a valid match in the gallery, so no list can be judged." in Page(write_report(run.path)).words


def test_damaged_parts_are_said(run: RunFolder) -> None:
    for name in (RANKINGS, "features.npz", "checkpoints/best.pt"):
        (run.path / name).write_bytes(b"PK\x05\x06 nothing")
    words = Page(write_report(run.path)).words
    for part in ("rankings.npz cannot be shown", "features.npz is damaged", "The model cannot be loaded"):
        assert part in words
    assert "The largest clusters" in words


def test_features_of_other_images_are_not_used(run: RunFolder) -> None:
    add_labels(run.path, 4, [0, 0, -1], [Path("/a.png"), Path("/b.png"), Path("/c.png")])
    assert "features.npz is of other images than the labels of epoch 4." in Page(write_report(run.path)).words


def test_unknown_identities_are_said(run: RunFolder) -> None:
    with np.load(run.path / "features.npz") as stored:
        arrays = dict(stored) | {"identities": np.full(32, -1), "cameras": np.full(32, -1)}
    np.savez(run.path / "features.npz", **arrays)
    words = Page(write_report(run.path)).words
    assert "so whether a suspicion is right cannot be known" in words
    assert "The cameras of the images are unknown" in words


def test_other_backbones_have_no_attention_maps(run: RunFolder) -> None:
    config = tiny_config("people", backbone={"name": "resnet10t", "embed_dim": None, "depth": None, "num_heads": None})
    model = EmbeddingModel(create_backbone("resnet10t", image_size=SIZE))
    run.save_checkpoint("best", {"model": model.state_dict(), "config": config.model_dump_json()})
    assert "resnet10t is none of reidkit's own ViTs" in Page(write_report(run.path)).words


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_that_of_the_block(heads: int) -> None:
    """Weights times values, through the projection, are what the block's own attention returns for the class token."""
    torch.manual_seed(0)
    model = EmbeddingModel(create_backbone("vit_tiny", image_size=SIZE, embed_dim=16, depth=2, num_heads=heads)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    block = model.backbone.blocks[-1].attn  # type: ignore[union-attr, index]
    seen: list[torch.Tensor] = []
    block.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = attention_of(model, pixels, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert found.shape == (3, 2, 1)
    tokens = seen[0].numpy().astype(np.float64)
    weight, bias = (value.detach().numpy() for value in (block.qkv.weight, block.qkv.bias))
    size = 16 // heads
    for image in range(3):
        mixed = tokens[image] @ weight.T + bias
        shares = np.zeros(3)
        for head in range(heads):
            query, key = mixed[0, head * size :][:size], mixed[:, 16 + head * size :][:, :size]
            scores = np.exp(key @ query / np.sqrt(size))
            shares += scores / scores.sum() / heads
        np.testing.assert_allclose(found[image].ravel(), shares[1:], atol=1e-5)
