"""The settings of a backbone."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from reidkit.config import Settings

__all__ = ["BackboneConfig"]


class BackboneConfig(Settings):
    """The backbone and its initial weights: the arguments of `create_backbone`."""

    name: str = "vit_small_ics"
    """vit_tiny, vit_small, vit_base, each with _ics for the IBN convolution stem, or any name of timm's."""

    image_size: tuple[PositiveInt, PositiveInt] = (256, 128)
    """Height and width of the images in pixels; a ViT needs multiples of its patch."""

    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Stochastic depth of the last block, growing from 0 in the first; 0 is off."""

    embed_dim: PositiveInt | None = None
    """Width of a ViT; None is that of the name."""

    depth: PositiveInt | None = None
    """Blocks of a ViT; None is that of the name."""

    num_heads: PositiveInt | None = None
    """Attention heads of a ViT, a divisor of its width; None is that of the name, or one per 64 of embed_dim."""

    patch_size: PositiveInt | None = None
    """Pixels along one side of a token of a ViT; None is that of the name, 16 for those of the paper. Small images need
    smaller patches."""

    sie_cameras: NonNegativeInt = 0
    """Number of cameras for which a ViT learns an embedding (SIE of TransReID), at least that of the training images;
    0 is off."""

    pretrained: str = ""
    """Initial weights: "" is random, "timm" those that timm publishes under the name; another name of timm's, such as
    `vit_small_patch16_224.dino`, or `hf-hub:OWNER/MODEL`; else the path of a checkpoint."""
