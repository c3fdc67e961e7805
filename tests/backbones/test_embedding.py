from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from reidkit.backbones import EmbeddingModel, create_backbone
from reidkit.errors import ConfigError
from tests.backbones.golden_weights import TINY, fill, images


@pytest.mark.parametrize("name", ["vit_small", "vit_small_ics"])
def test_golden(golden: Callable[[str], dict[str, Any]], name: str) -> None:
    arrays = golden(f"usl_{name}_256x128")
    model = EmbeddingModel(create_backbone(name)).eval()
    fill(model.backbone)
    # The published model has no name for its backbone: the neck's weights come from `bottleneck.*`.
    neck = nn.Module()
    neck.bottleneck = model.bottleneck
    fill(neck)
    batch = images(int(arrays["image_seed"]), int(arrays["batch"]), (256, 128))
    with torch.inference_mode():
        before, after = model(batch)
    np.testing.assert_allclose(before, arrays["cls_before_bn"], atol=1e-4)
    np.testing.assert_allclose(functional.normalize(after), arrays["features"], atol=1e-6)


def _model(retrieval: Literal["after_neck", "before_neck"] = "after_neck") -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(create_backbone("vit_tiny_ics", image_size=(32, 16), **TINY), retrieval=retrieval)


def test_neck_is_batch_normalisation_of_the_backbones_feature() -> None:
    model = _model()
    batch = torch.randn(5, 3, 32, 16)
    before, after = model(batch)
    mean, var = before.mean(0), before.var(0, correction=0)
    torch.testing.assert_close(before, model.backbone(batch))
    torch.testing.assert_close(after, (before - mean) / (var + 1e-5).sqrt())
    assert after.shape == (5, model.feature_dim) == (5, 32)
    assert model.image_size == (32, 16)


def test_neck_bias_is_frozen_at_zero() -> None:
    model = _model()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["bottleneck.bias"]
    assert model.bottleneck.bias.abs().max() == 0
    assert torch.equal(model.bottleneck.weight, torch.ones(32))


@pytest.mark.parametrize("retrieval", ["after_neck", "before_neck"])
def test_retrieval_feature_is_the_chosen_one_on_the_unit_sphere(
    retrieval: Literal["after_neck", "before_neck"],
) -> None:
    model = _model(retrieval).eval()
    model.bottleneck.weight.data.uniform_(0.5, 2.0)
    batch = torch.randn(3, 3, 32, 16)
    with torch.no_grad():
        chosen = getattr(model(batch), retrieval)
        feature = model.embed(batch)
    torch.testing.assert_close(feature, chosen / chosen.norm(dim=1, keepdim=True))


def test_features_are_float32_under_mixed_precision() -> None:
    model = _model()
    with torch.autocast("cpu", torch.bfloat16):
        before, after = model(torch.randn(4, 3, 32, 16))
    assert before.dtype == after.dtype == torch.float32


def test_unknown_retrieval_feature_is_refused() -> None:
    with pytest.raises(ConfigError, match="retrieval='neck' is none of before_neck, after_neck"):
        _model("neck")  # type: ignore[arg-type]
