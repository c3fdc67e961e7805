from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from reidkit.backbones import EmbeddingModel, create_backbone
from reidkit.errors import ConfigError
from tests.backbones.golden_weights import TINY, Shape, fill, golden_keys, images, listed


@pytest.mark.parametrize("stem", ["vit_ics_toy_64x32", "vit_small_ics_256x128"])
def test_golden_features_and_parameters(golden: Callable[[str], dict[str, Any]], stem: str) -> None:
    arrays = golden(stem)
    height, width = (int(side) for side in arrays["size"])
    shape = Shape(embed_dim=int(arrays["embed_dim"]), depth=int(arrays["depth"]), num_heads=int(arrays["num_heads"]))
    model = create_backbone("vit_small_ics", image_size=(height, width), **shape).eval()
    keys, parameters = golden_keys(stem)
    assert listed(model) == keys
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters

    fill(model)
    with torch.inference_mode():
        features = model(images(int(arrays["image_seed"]), int(arrays["batch"]), (height, width)))
    np.testing.assert_allclose(features, arrays["features"], atol=1e-4)


@pytest.mark.parametrize("name", ["vit_small", "vit_small_ics"])
def test_golden_parameters_of_the_model_with_its_neck(name: str) -> None:
    with torch.device("meta"):
        model = EmbeddingModel(create_backbone(name))
    keys, _ = golden_keys(f"usl_{name}_256x128")
    assert [(key.removeprefix("backbone."), shape) for key, shape in listed(model)] == keys


@pytest.mark.parametrize(
    ("name", "width", "heads"), [("vit_tiny", 192, 3), ("vit_small", 384, 6), ("vit_base", 768, 12)]
)
@pytest.mark.parametrize("stem", ["", "_ics"])
def test_every_name_has_its_size(name: str, width: int, heads: int, stem: str) -> None:
    with torch.device("meta"):
        model: Any = create_backbone(name + stem, image_size=(384, 128))
    # Blocks: two norms, qkv, projection, two MLP layers; around them class token, positions, last norm.
    block = (
        2 * 2 * width
        + 3 * width * (width + 1)
        + width * (width + 1)
        + 4 * width * (width + 1)
        + width * (4 * width + 1)
    )
    convolutions = 64 * 3 * 49 + 2 * 64 * 64 * 9 + 3 * 2 * 64 + width * 64 * 64 + width
    patches = convolutions if stem else width * 3 * 256 + width
    expected = 12 * block + patches + width + 193 * width + 2 * width
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert (model.feature_dim, model.image_size, model.blocks[0].attn.num_heads) == (width, (384, 128), heads)


def _slow_vit(state: dict[str, Tensor], batch: Tensor, heads: int) -> Tensor:
    """A ViT written out from its equations; patches by the 16 x 16 convolution."""
    tokens = functional.conv2d(batch, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    tokens = tokens.flatten(2).transpose(1, 2)
    tokens = torch.cat((state["cls_token"].expand(len(batch), -1, -1), tokens), dim=1) + state["pos_embed"]
    width = tokens.shape[-1]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for block in range(len({name.split(".")[1] for name in state if name.startswith("blocks.")})):
        at = f"blocks.{block}."
        qkv = linear(norm(tokens, f"{at}norm1"), f"{at}attn.qkv")
        q, k, v = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        attention = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
        tokens = tokens + linear((attention @ v).transpose(1, 2).flatten(2), f"{at}attn.proj")
        hidden = linear(norm(tokens, f"{at}norm2"), f"{at}mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        tokens = tokens + linear(hidden, f"{at}mlp.fc2")
    return norm(tokens, "norm")[:, 0]


def test_feature_is_the_class_token_after_the_last_norm() -> None:
    model = create_backbone("vit_tiny", image_size=(48, 32), **TINY).eval()
    fill(model)
    batch = images(0, 3, (48, 32))
    with torch.inference_mode():
        torch.testing.assert_close(model(batch), _slow_vit(model.state_dict(), batch, heads=2), atol=1e-5, rtol=1e-5)


def test_drop_path_acts_in_training_only_and_grows_with_depth() -> None:
    torch.manual_seed(0)
    model: Any = create_backbone("vit_tiny", image_size=(32, 16), drop_path=0.4, embed_dim=32, depth=3, num_heads=2)
    fill(model)
    batch = images(0, 2, (32, 16)).repeat(8, 1, 1, 1)
    with torch.no_grad():
        trained, evaluated = model(batch), model.eval()(batch)
    torch.testing.assert_close(evaluated[::2], evaluated[:1].expand(8, -1))
    assert not torch.allclose(trained[::2], trained[:1].expand(8, -1))
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4])


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
def test_initialisation(name: str) -> None:
    torch.manual_seed(0)
    model: Any = create_backbone(name, image_size=(64, 32), depth=2)
    for tensor in (model.pos_embed, model.blocks[0].attn.qkv.weight, model.blocks[1].mlp.fc1.weight):
        assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert model.blocks[0].attn.qkv.bias.abs().max() == 0
    features = model(torch.randn(4, 3, 64, 32))
    assert features.isfinite().all()
    features.square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_same_seed_same_weights() -> None:
    def create() -> nn.Module:
        torch.manual_seed(3)
        return create_backbone("vit_tiny_ics", image_size=(32, 16), **TINY)

    one, other = create().state_dict(), create().state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "vit_small_ics",
            {"image_size": (250, 128)},
            "250x128 is not a multiple of the 16-pixel patch .* take 256x128",
        ),
        ("vit_small", {"image_size": (256, 5)}, "take 256x16"),
        ("vit_small", {"image_size": (0, 128)}, "height=0 .* below 1"),
        ("vit_small", {"depth": 0}, "depth=0 .* below 1"),
        ("vit_tiny_ics", {"embed_dim": 100, "num_heads": 3}, "embed_dim=100 is not a multiple of num_heads=3"),
        ("vit_tiny_ics", {"patch_size": 7}, "patch_size=7 .* is odd.* take 8"),
        ("vit_tiny", {"image_size": (64, 36), "patch_size": 8}, "64x36 is not a multiple of the 8-pixel .* take 64x32"),
        ("vit_tiny", {"drop_path": 1.0}, r"drop_path=1.0 is outside \[0, 1\)"),
        ("vit_tiny", {"drop_path": -0.1}, r"drop_path=-0.1 is outside \[0, 1\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, **options)
