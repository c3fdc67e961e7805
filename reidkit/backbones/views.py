"""Features of images of other sizes than a backbone was created for."""

from typing import cast

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, cat, nn

from reidkit.backbones.positions import resize_grid
from reidkit.backbones.stem import ConvStem
from reidkit.errors import ConfigError

__all__ = ["embed_views"]


def embed_views(backbone: nn.Module, images: Tensor) -> Tensor:
    """Features (B, D) of images (B, 3, H, W) of any size that is a multiple of the patch.

    For the local views of DINO (arXiv 2104.14294, section 3.1): the position embedding of a ViT is resized to the
    views' grid of patches, bilinearly, and learns through that.

    Args:
        backbone: From `create_backbone`; a CNN takes images of any size without this.
        images: Normalised images.

    Raises:
        ConfigError: The size is no multiple of the patch, or the ViT is of a kind that has no grid of positions.
    """
    size = (images.shape[2], images.shape[3])
    native = cast(tuple[int, int], backbone.image_size)
    if size == native or not isinstance(backbone, VisionTransformer):
        return cast(Tensor, backbone(images))
    patches = backbone.patch_embed
    grid, positions = patches.grid_size, backbone.pos_embed
    side = native[0] // grid[0]
    if size[0] % side or size[1] % side:
        raise ConfigError(
            f"views of {size[0]}x{size[1]} pixels are not a multiple of the {side}-pixel patch; change crops.local_size"
        )
    if positions is None or backbone.cls_token is None or positions.shape[1] != 1 + grid[0] * grid[1]:
        raise ConfigError(
            f"{type(backbone).__name__} has no position for every patch and the class token, which views of other "
            "sizes need; take one of vit_tiny, vit_small, vit_base, with _ics or without"
        )
    # Patch tokens without the check of the image size
    if isinstance(patches, ConvStem):
        tokens = patches.tokens(images)
    else:
        tokens = patches.norm(patches.proj(images).flatten(2).transpose(1, 2))
    # Positions on the grid of the views, then the blocks as in the ViT
    shape = (size[0] // side, size[1] // side)
    tokens = tokens + resize_grid(positions[:, 1:], grid, shape)
    classes = (backbone.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
    encoded = backbone.norm(backbone.blocks(backbone.norm_pre(cat([classes, tokens], dim=1))))
    return backbone.forward_head(encoded)
