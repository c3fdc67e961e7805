"""Images of a split in memory, ready to be batched."""

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split, decode_images
from reidkit.loop.progress import Progress

__all__ = ["ImageSet", "read_split"]

logger = logging.getLogger(__name__)

_NAMED = 5  # unreadable files named one by one before the rest is counted


class ImageSet(NamedTuple):
    """The readable images of a split."""

    split: Split
    """Paths, identities and cameras of the N readable images."""
    pixels: NDArray[np.uint8]
    """(N, 3, H, W) RGB."""


def read_split(split: Split, name: str, size: tuple[int, int], *, strict: bool, progress: Progress) -> ImageSet:
    """Read a split's images at the model's input size (H, W); unreadable ones are named and left out.

    Raises:
        DataError: No image is readable, or one is not and `strict` holds.
    """
    progress.begin(f"read {name}", len(split))
    images = decode_images(split.paths, size, strict=strict, progress=progress.advance)
    if not images.problems:
        return ImageSet(split, images.pixels)
    for problem in images.problems[:_NAMED]:
        logger.warning("unreadable image, left out: %s", problem)
    rest = len(images.problems) - _NAMED
    logger.warning(
        "%d of %d %s images are unreadable and left out%s (--strict stops instead)",
        len(images.problems),
        len(split),
        name,
        f", {rest} of them not named above" if rest > 0 else "",
    )
    return ImageSet(split.subset(images.readable), images.pixels[images.readable])
