"""The ViTs of the paper: timm's `VisionTransformer`, with its patch projection or the IBN convolution stem."""

from functools import partial

from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from reidkit.backbones.sie import CameraVisionTransformer
from reidkit.backbones.stem import PATCH, STEM_STRIDE, ConvStem
from reidkit.errors import ConfigError

__all__ = ["DEPTH", "STEM", "WIDTHS", "create_vit", "default_heads", "is_own_vit"]

WIDTHS = {"vit_tiny": 192, "vit_small": 384, "vit_base": 768}
"""Width D of each ViT; depth is 12 and a head is 64 wide in all of them."""

STEM = "_ics"
"""Suffix of the names of ViTs with the IBN convolution stem."""

DEPTH = 12
_HEAD_WIDTH = 64


def is_own_vit(name: str) -> bool:
    """Return whether `name` is one of ours: a key of `WIDTHS`, with `_ics` or without."""
    return name.removesuffix(STEM) in WIDTHS


def default_heads(embed_dim: int) -> int:
    """Return the number of attention heads of a ViT of this width: heads 64 wide, at least one."""
    return max(1, embed_dim // _HEAD_WIDTH)


def create_vit(
    name: str,
    *,
    image_size: tuple[int, int],
    drop_path: float,
    embed_dim: int | None,
    depth: int | None,
    num_heads: int | None,
    patch_size: int | None,
    sie_cameras: int,
) -> nn.Module:
    """Create one of our ViTs, initialised as in DINO; its feature is the class token after the last LayerNorm.

    The arguments are those of `create_backbone`. The drop path grows from 0 in the first block; None is a depth of 12,
    one head per 64 of width and a patch of 16, which is even with the stem.

    Raises:
        ConfigError: The image size, the patch or the number of heads does not fit.
    """
    patch = patch_size or PATCH
    if name.endswith(STEM) and patch % STEM_STRIDE:
        raise ConfigError(f"patch_size={patch} of {name!r} is odd; its stem halves images first: take {patch + 1}")
    if image_size[0] % patch or image_size[1] % patch:
        raise ConfigError(
            f"image_size={image_size[0]}x{image_size[1]} is not a multiple of the {patch}-pixel patch of {name!r}; "
            f"take {_nearest(image_size[0], patch)}x{_nearest(image_size[1], patch)}"
        )
    width = embed_dim or WIDTHS[name.removesuffix(STEM)]
    heads = num_heads or default_heads(width)
    if width % heads:
        raise ConfigError(f"embed_dim={width} is not a multiple of num_heads={heads}; change one of them")
    kind = partial(CameraVisionTransformer, sie_cameras) if sie_cameras else VisionTransformer
    return kind(
        img_size=image_size,
        patch_size=patch,
        num_classes=0,
        embed_dim=width,
        depth=depth or DEPTH,
        num_heads=heads,
        drop_path_rate=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        embed_layer=_stem if name.endswith(STEM) else PatchEmbed,
    )


def _stem(*, img_size: tuple[int, int], embed_dim: int, patch_size: int, **_: object) -> ConvStem:
    """Create the stem from the arguments that timm gives to a patch embedding."""
    return ConvStem(img_size, embed_dim, patch_size)


def _nearest(side: int, patch: int) -> int:
    return max(patch, round(side / patch) * patch)
