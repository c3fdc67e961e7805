"""Attention of the class token in the last block of a ViT (Caron et al., "DINO", arXiv 2104.14294, figure 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError, ReidkitError
from reidkit.pages import Album, Thumbnail, data_uri, open_picture

if TYPE_CHECKING:
    from reidkit.datasets import Colour

__all__ = ["attention_of", "make_attention_maps"]

_IMAGES = 8
_BOX = (96, 192)
_DARKEST = 0.15
"""Brightness where there is no attention."""


def make_attention_maps(folder: Path, paths: Sequence[str], album: Album) -> list[tuple[Thumbnail, str]] | str:
    """Show the attention of the run's best model on 8 images at even distances; return in words why there is none.

    Returns:
        The thumbnails, and the same images lit by the attention, JPEGs as data URIs.
    """
    from reidkit.backbones import is_own_vit  # these load torch
    from reidkit.datasets import decode_images
    from reidkit.loop import load_model

    # Reasons why there is none
    if not paths:
        return "The run names no images yet to look at."
    if not any((folder / "checkpoints" / name).is_file() for name in ("best.pt", "last.pt")):
        return "The run has no checkpoint yet."
    try:
        model, config, _ = load_model(folder)
    except ReidkitError as error:
        return f"The model cannot be loaded: {error}."
    if not is_own_vit(config.backbone.name):
        return f"{config.backbone.name} is none of reidkit's own ViTs, whose attention this section shows."

    # Images that can still be read
    places = np.linspace(0, len(paths) - 1, min(len(paths), _IMAGES)).round().astype(int).tolist()
    chosen = [Path(paths[place]) for place in dict.fromkeys(places)]
    try:
        images = decode_images(chosen, model.image_size)
    except DataError:
        return "None of the images chosen for it can be read any more."

    # Images lit by the attention
    readable = np.flatnonzero(images.readable).tolist()
    attention = attention_of(model, images.pixels[readable], config.data.mean, config.data.std)
    lit = [(chosen[index], _lit(chosen[index], heat)) for index, heat in zip(readable, attention, strict=True)]
    return [(album.add(path), picture) for path, picture in lit if picture]


def attention_of(model: Any, pixels: NDArray[np.uint8], mean: "Colour", std: "Colour") -> NDArray[np.float32]:
    """Attention of the class token to the patches in the last block, the mean over its heads.

    softmax(q k^T / sqrt(d)) is computed from the input of the block's attention, which itself never returns it.

    Args:
        model: An `EmbeddingModel` around one of our ViTs.
        pixels: (B, 3, H, W) RGB.
        mean: Of the normalisation.
        std: Of the normalisation.

    Returns:
        (B, h, w) shares for the grid of patches; they sum to 1 less the share of the class token.
    """
    import torch

    from reidkit.datasets import normalise

    backbone, entered = model.backbone.eval(), []
    attention = backbone.blocks[-1].attn
    hook = attention.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    try:
        with torch.inference_mode():
            backbone(normalise(torch.from_numpy(pixels), mean, std))
            tokens = entered[0]
            batch, length, _ = tokens.shape
            mixed = attention.qkv(tokens).reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
            query, key = attention.q_norm(mixed[0][:, :, :1]), attention.k_norm(mixed[1])
            shares = (attention.scale * query @ key.transpose(-2, -1)).softmax(dim=-1)
    finally:
        hook.remove()
    rows, columns = backbone.patch_embed.grid_size
    found: NDArray[np.float32] = shares.mean(dim=1)[:, 0, 1:].reshape(batch, rows, columns).float().numpy()
    return found


def _lit(path: Path, heat: NDArray[np.float32]) -> str:
    """The image, bright where the attention is; empty if it cannot be read."""
    from PIL import Image

    picture = open_picture(path, _BOX)
    if isinstance(picture, str):
        return ""
    scaled = Image.fromarray(heat / max(float(heat.max()), 1e-12)).resize(picture.size, Image.Resampling.BICUBIC)
    light = _DARKEST + (1 - _DARKEST) * np.clip(np.asarray(scaled), 0, 1)[:, :, None]
    return data_uri(Image.fromarray((np.asarray(picture) * light).astype(np.uint8)))
