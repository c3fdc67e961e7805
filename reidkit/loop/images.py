"""Images of a split in memory, ready to be batched."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import ReIDDataset, Split, decode_images, load_dataset
from reidkit.errors import DataError
from reidkit.loop.config import RunConfig
from reidkit.loop.progress import Progress

__all__ = ["ImageSet", "find_dataset", "read_dataset", "read_split"]

logger = logging.getLogger(__name__)

_NAMED = 5  # unreadable files named one by one before the rest is counted


class ImageSet(NamedTuple):
    """The readable images of a split."""

    split: Split
    """Paths, identities and cameras of the N readable images."""
    pixels: NDArray[np.uint8]
    """(N, 3, H, W) RGB."""

    def part(self, start: int, stop: int | None) -> "ImageSet":
        """Images [start, stop), in the same memory."""
        chosen = slice(start, stop)
        split = self.split
        return ImageSet(
            Split(split.paths[chosen], split.identities[chosen], split.cameras[chosen]), self.pixels[chosen]
        )


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


def find_dataset(name: str, config: RunConfig, data_root: Path | None, progress: Progress) -> ReIDDataset:
    """Find a data set, without its cameras where the settings leave them out.

    Raises:
        DataError: It does not exist or cannot be understood.
    """
    progress.begin(f"find {name}", 1)
    dataset = load_dataset(name, data_root, progress=progress.advance)
    return dataset if config.data.cameras else dataset.without_cameras()


def read_dataset(dataset: ReIDDataset, splits: Sequence[str], config: RunConfig, progress: Progress) -> list[ImageSet]:
    """Read splits of a data set, among `train`, `query` and `gallery`, at the model's input size.

    Raises:
        DataError: A split is empty, or what `read_split` raises.
    """
    images: list[ImageSet] = []
    for name in splits:
        split: Split = getattr(dataset, name)
        if not len(split):
            raise DataError(
                f"{dataset.name} ({dataset.root}) has no {name} images; training on it needs them, those of query and "
                "gallery for the evaluation. Complete it, or name another data set"
            )
        size, strict = config.backbone.image_size, config.data.strict
        images.append(read_split(split, f"{dataset.name} {name}", size, strict=strict, progress=progress))
    return images
