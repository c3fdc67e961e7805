"""Which feature of a checkpoint retrieves, and what is said when weights are missing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reidkit.backbones import BackboneConfig, EmbeddingModel, create_backbone, to_supervised_layout, to_usl_layout
from reidkit.errors import CheckpointError
from reidkit.loop import build_model, load_model
from reidkit.runs import RunConfig
from tests.backbones.golden_weights import fill, images

SIZE = (32, 16)


def before_neck(model: EmbeddingModel, batch: Tensor) -> Tensor:
    return unit_vectors(model.backbone(batch))


def after_neck(model: EmbeddingModel, batch: Tensor) -> Tensor:
    feature, neck = model.backbone(batch), model.bottleneck.state_dict()
    feature = (feature - neck["running_mean"]) / (neck["running_var"] + 1e-5).sqrt()
    return unit_vectors(feature * neck["weight"] + neck["bias"])


def unit_vectors(features: Tensor) -> Tensor:
    units: Tensor = features / torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return units


def supervised(model: EmbeddingModel) -> object:
    return to_supervised_layout(model, nn.Linear(model.feature_dim, 7, bias=False))


def flat(model: EmbeddingModel) -> object:
    return model.backbone.state_dict()


def dino(model: EmbeddingModel) -> object:
    teacher = {f"module.backbone.{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    return {"teacher": {**teacher, "module.head.last_layer.weight": torch.zeros(3, 2)}, "epoch": 100}


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
@pytest.mark.parametrize(
    ("layout", "expected"),
    [(supervised, before_neck), (to_usl_layout, after_neck), (flat, before_neck), (dino, before_neck)],
)
def test_checkpoints_of_other_projects_retrieve_with_the_feature_that_they_were_trained_for(
    tmp_path: Path,
    name: str,
    layout: Callable[[EmbeddingModel], object],
    expected: Callable[[EmbeddingModel, Tensor], Tensor],
) -> None:
    original = EmbeddingModel(create_backbone(name, image_size=SIZE, embed_dim=64, depth=2, num_heads=1)).eval()
    fill(original)
    file = tmp_path / "checkpoint.pth"
    torch.save(layout(original), file)
    trained = load_model(file)
    assert trained.path == file
    assert trained.config.backbone.name == name
    assert trained.model.image_size == SIZE
    batch = images(0, 4, SIZE)
    with torch.inference_mode():
        found, wanted = trained.model.eval().embed(batch), expected(original, batch)
        other = (after_neck if expected is before_neck else before_neck)(original, batch)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (found - other).abs().max() > 0.01


@pytest.mark.parametrize("folder", [False, True])
def test_a_missing_checkpoint_is_named(tmp_path: Path, folder: bool) -> None:
    path = tmp_path if folder else tmp_path / "absent.pt"
    with pytest.raises(CheckpointError, match=r"(best|absent)\.pt does not exist"):
        load_model(path)


def test_settings_of_another_version_are_explained(tmp_path: Path) -> None:
    torch.save({"config": RunConfig().model_dump_json().replace('"eps"', '"epsilon"')}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"old\.pt was written by another version of reidkit"):
        load_model(tmp_path / "old.pt")


def test_missing_pretrained_weights_say_where_they_are_published_and_how_to_go_on() -> None:
    config = BackboneConfig(pretrained="vit_small_ics_cfs_lup.pth")
    with pytest.raises(CheckpointError) as caught:
        build_model(config, seed=1)
    for words in (
        "pre-trained weights vit_small_ics_cfs_lup.pth were not found",
        str(Path.cwd()),
        "project page of TransReID-SSL (arXiv 2111.12084)",
        "--pretrained PATH",
        "--pretrained none",
    ):
        assert words in str(caught.value)
    assert "://" not in str(caught.value)


def test_the_same_seed_gives_the_same_random_weights() -> None:
    config = BackboneConfig(name="vit_tiny_ics", image_size=SIZE, embed_dim=32, depth=1, num_heads=2)
    one, two, other = (build_model(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["backbone.cls_token"], other["backbone.cls_token"])
