from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reidkit.backbones import EmbeddingModel, create_backbone, infer_architecture, to_supervised_layout, to_usl_layout
from reidkit.backbones.formats import is_skipped, split_checkpoint
from reidkit.errors import CheckpointError
from tests.backbones.golden_weights import TINY, golden_keys

WEIGHT = {"pos_embed": torch.zeros(1, 3, 4)}
NECK = {"bottleneck.weight": torch.zeros(4)}


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    ("content", "layout", "prefix"),
    [
        (WEIGHT, "flat", ""),
        (_under("module.", WEIGHT), "flat", ""),
        ({"model": WEIGHT, "args": {"lr": 0.1}}, "flat", ""),
        ({**WEIGHT, "epoch": 3}, "flat", ""),
        ({"state_dict": _under("module.", WEIGHT | NECK), "epoch": 1}, "usl", ""),
        ({"state_dict": WEIGHT | NECK}, "usl", ""),
        (_under("base.", WEIGHT) | NECK | {"classifier.weight": torch.zeros(2, 4)}, "supervised", "base."),
        (_under("module.base.", WEIGHT), "supervised", "base."),
        (
            {"teacher": _under("module.backbone.", WEIGHT) | {"module.head.mlp.0.weight": torch.zeros(2)}},
            "dino",
            "backbone.",
        ),
        ({"student": {}, "teacher": _under("backbone.", WEIGHT), "epoch": 1}, "dino", "backbone."),
        (_under("backbone.", WEIGHT), "dino", "backbone."),
        ({"model": _under("backbone.", WEIGHT) | NECK, "optimizer": {}}, "reidkit", "backbone."),
        (_under("backbone.", WEIGHT) | NECK, "reidkit", "backbone."),
    ],
)
def test_layouts_are_recognised(content: dict[str, object], layout: str, prefix: str) -> None:
    stored = split_checkpoint(content)
    assert (stored.layout, stored.prefix) == (layout, prefix)
    assert list(stored.backbone) == ["pos_embed"]
    assert list(stored.neck) in ([], ["weight"])
    assert all(is_skipped(name) for name in stored.rest)


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "args": {}}, {"model": {}}, {"state_dict": {"a": 1}}])
def test_checkpoint_without_weights_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="no weights in the checkpoint: its keys are"):
        split_checkpoint(content)


def test_skipped_names() -> None:
    skipped = ("head.weight", "head_dist.bias", "dist_token", "pre_logits.fc.weight", "classifier.weight", "fc.bias")
    kept = ("norm.weight", "fc_norm.weight", "blocks.0.mlp.fc1.weight", "patch_embed.proj.bias", "cls_token")
    assert all(is_skipped(name) for name in skipped)
    assert not any(is_skipped(name) for name in kept)


@pytest.mark.parametrize("name", ["vit_small", "vit_small_ics"])
def test_usl_layout_has_the_published_names(name: str) -> None:
    with torch.device("meta"):
        model = EmbeddingModel(create_backbone(name))
    saved: Any = to_usl_layout(model, epoch=50, best_map=0.4)
    keys, _ = golden_keys(f"usl_{name}_256x128")
    assert [(key, list(t.shape)) for key, t in saved["state_dict"].items()] == [(f"module.{k}", s) for k, s in keys]
    assert {key: saved[key] for key in saved if key != "state_dict"} == {"epoch": 50, "best_mAP": 0.4}


def test_supervised_layout_has_the_published_names() -> None:
    with torch.device("meta"):
        model = EmbeddingModel(create_backbone("vit_small_ics"))
        saved = to_supervised_layout(model, nn.Linear(384, 751, bias=False))
    keys, _ = golden_keys("usl_vit_small_ics_256x128")
    expected = [(key if key.startswith("bottleneck.") else f"base.{key}", shape) for key, shape in keys]
    assert [(key, list(t.shape)) for key, t in saved.items()] == [*expected, ("classifier.weight", [751, 384])]
    assert not any(tensor.requires_grad for tensor in saved.values())
    assert "classifier.weight" not in to_supervised_layout(model)


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small_ics", "vit_base_ics"])
@pytest.mark.parametrize("image_size", [(256, 128), (384, 128), (224, 224), (64, 32)])
def test_architecture_is_inferred(name: str, image_size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = create_backbone(name, image_size=image_size, depth=3)
        inferred = infer_architecture(to_usl_layout(EmbeddingModel(model)))
        twin: Any = create_backbone(**inferred)
    assert (inferred["name"], inferred["image_size"], inferred["depth"]) == (name, image_size, 3)
    assert {k: t.shape for k, t in twin.state_dict().items()} == {k: t.shape for k, t in model.state_dict().items()}


def test_architecture_of_another_width_is_given_by_its_width() -> None:
    state = create_backbone("vit_small_ics", image_size=(64, 32), **TINY).state_dict()
    assert infer_architecture(state) == {
        "name": "vit_tiny_ics",
        "image_size": (64, 32),
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 1,
        "patch_size": 16,
    }


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
def test_architecture_with_small_patches_is_read_off_its_projection(name: str) -> None:
    state = create_backbone(name, image_size=(64, 32), patch_size=8, **TINY).state_dict()
    found = infer_architecture(state)
    assert (found["patch_size"], found["image_size"]) == (8, (64, 32))
    create_backbone(**found).load_state_dict(state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(4, 3, 7, 7)}, "not of a ViT: 'pos_embed'"),
        (
            {"pos_embed": torch.zeros(1, 197, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 14, 16)},
            "patches of 14x16, which are no squares",
        ),
        (
            {"pos_embed": torch.zeros(1, 11, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)},
            "10 patches",
        ),
    ],
)
def test_architectures_that_are_not_ours_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        infer_architecture(content)
