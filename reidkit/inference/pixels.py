"""One image in any form, as the pixels that a model was trained on."""

from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets import iterate_images, resize_image
from reidkit.errors import DataError

__all__ = ["Picture", "is_one_picture", "printable", "read_pixels"]

Picture = str | PathLike[str] | Image.Image | NDArray[Any] | torch.Tensor
"""A path; a Pillow image; an array (H, W, 3) uint8; or a tensor (3, H, W), uint8 or floating point in [0, 1]; RGB."""


def is_one_picture(images: object) -> bool:
    """Whether this is one image rather than a sequence of them; arrays and tensors of four axes are batches."""
    return isinstance(images, str | PathLike | Image.Image) or getattr(images, "ndim", 0) == 3


def read_pixels(picture: Picture, size: tuple[int, int]) -> NDArray[np.uint8] | str:
    """An image as (3, H, W) RGB bytes, resized as for training, or the reason why it cannot be read; `size` is (H, W).

    Raises:
        DataError: An array or tensor of another shape, type or range.
    """
    if isinstance(picture, str | PathLike):
        with closing(iterate_images([Path(picture)], size, 1)) as images:
            return next(images)
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    elif isinstance(picture, torch.Tensor):
        picture = _from_tensor(picture)
    if picture.mode.startswith(("I", "F")):
        raise DataError(
            f"a Pillow image of mode {picture.mode!r} has no set range of values; give its path, or convert it to 8 "
            "bits"
        )
    try:
        resized = resize_image(picture, size[::-1])
    # Pillow reads lazily, and its decoders raise many kinds of errors on damaged files; each means the same here.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return np.asarray(resized).transpose(2, 0, 1)


def printable(text: str | Path) -> str:
    """A name on one line of a terminal: control characters and bytes that are not text become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or array.dtype != np.uint8:
        raise DataError(
            f"an array of shape {array.shape} and type {array.dtype} is no image; give (H, W, 3) uint8, RGB, or a "
            "tensor (3, H, W)"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _from_tensor(tensor: torch.Tensor) -> Image.Image:
    floating = tensor.is_floating_point()
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel() or not (floating or tensor.dtype == torch.uint8):
        raise DataError(
            f"a tensor of shape {tuple(tensor.shape)} and type {tensor.dtype} is no image; give (3, H, W), RGB, uint8 "
            "or floating point in [0, 1]"
        )
    pixels = tensor.detach().cpu()
    if floating:
        low, high = pixels.min().item(), pixels.max().item()
        if not (low >= 0 and high <= 1):  # NaN too
            raise DataError(
                f"a tensor holds values from {low:g} to {high:g}, where an image has them in [0, 1]; give it as it was "
                "before the mean was subtracted (the model's own is applied here), or as uint8"
            )
        pixels = pixels.float().mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
