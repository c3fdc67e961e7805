from typing import Any

import pytest
import torch

from reidkit.backbones import create_backbone, embed_views, resize_position_embedding
from reidkit.errors import ConfigError


@pytest.mark.parametrize("name", ["vit_tiny_ics", "vit_tiny"])
def test_views_of_another_size_meet_a_backbone_made_for_them(name: str) -> None:
    """The slow twin: the same weights in a backbone of that size, its positions resized beforehand."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    large = create_backbone(name, image_size=(64, 32), **shape).eval()
    small = create_backbone(name, image_size=(32, 16), **shape).eval()
    weights = large.state_dict()
    weights["pos_embed"] = resize_position_embedding(weights["pos_embed"], (2, 1), 2)
    small.load_state_dict(weights)
    images = torch.randn(3, 3, 32, 16)
    torch.testing.assert_close(embed_views(large, images), small(images))


def test_views_of_its_own_size_go_straight_through() -> None:
    backbone = create_backbone("vit_tiny_ics", image_size=(32, 16), embed_dim=32, depth=1, num_heads=2).eval()
    images = torch.randn(2, 3, 32, 16)
    assert torch.equal(embed_views(backbone, images), backbone(images))


def test_positions_learn_from_views_of_another_size() -> None:
    backbone = create_backbone("vit_tiny_ics", image_size=(64, 32), embed_dim=32, depth=1, num_heads=2)
    embed_views(backbone, torch.randn(2, 3, 32, 16)).square().sum().backward()  # type: ignore[no-untyped-call]
    gradient = backbone.pos_embed.grad
    assert isinstance(gradient, torch.Tensor)
    assert (gradient.abs().sum(2) > 0).all()


def test_sizes_that_are_no_multiple_of_the_patch_are_refused() -> None:
    backbone = create_backbone("vit_tiny_ics", image_size=(64, 32), embed_dim=32, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match=r"30x16 pixels are not a multiple of the 16-pixel patch; .*local_size"):
        embed_views(backbone, torch.randn(2, 3, 30, 16))


def test_convolutional_backbones_take_any_size() -> None:
    backbone = create_backbone("resnet10t", image_size=(64, 32)).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(embed_views(backbone, images), backbone(images))
