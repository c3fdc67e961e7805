"""Images of a split, ready to be batched."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import (
    Pixels,
    ReIDDataset,
    Split,
    cache_folder,
    load_dataset,
    open_images,
    unreadable_warnings,
)
from reidkit.errors import DataError
from reidkit.loop.progress import Progress
from reidkit.runs import RunConfig

__all__ = ["ImageSet", "find_dataset", "join_images", "read_benchmark", "read_dataset", "read_split"]

logger = logging.getLogger(__name__)


class ImageSet(NamedTuple):
    """The readable images of a split."""

    split: Split
    """Paths, identities and cameras of the N readable images."""
    pixels: Pixels
    """(N, 3, H, W) uint8 RGB, not to be written to: mapped from a store, in memory, or decoded when asked for."""


class _JoinedPixels:
    """The rows of one set of images followed by those of another, without a copy; it satisfies `Pixels`.

    Args:
        first: (N, 3, H, W).
        second: (M, 3, H, W).
    """

    def __init__(self, first: Pixels, second: Pixels) -> None:
        self._first, self._second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        numbers = np.arange(len(self))[rows]
        ours = numbers < len(self._first)
        pixels = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        pixels[ours] = self._first[numbers[ours]]
        pixels[~ours] = self._second[numbers[~ours] - len(self._first)]
        return pixels


def join_images(first: ImageSet, second: ImageSet) -> ImageSet:
    """The images of both, those of the first before those of the second; cameras of the two are different ones.

    Identities stay as they are: where they count, the caller keeps those of the two apart.
    """
    cameras = second.split.cameras
    apart = np.where(cameras >= 0, cameras + first.split.cameras.max(initial=-1) + 1, cameras)
    split = Split(
        (*first.split.paths, *second.split.paths),
        np.concatenate([first.split.identities, second.split.identities]),
        np.concatenate([first.split.cameras, apart]),
    )
    return ImageSet(split, _JoinedPixels(first.pixels, second.pixels))


def read_split(
    split: Split,
    name: str,
    size: tuple[int, int],
    *,
    strict: bool,
    progress: Progress,
    store_gib: float | None = None,
) -> ImageSet:
    """Open a split's images at the model's input size (H, W); unreadable ones are named and left out.

    Args:
        split: Paths, identities and cameras.
        name: Name for messages.
        size: (H, W) in pixels.
        strict: Stop at an unreadable image.
        progress: Shows the images done.
        store_gib: GiB that the image store may take; None is its default.

    Raises:
        DataError: No image is readable, or one is not and `strict` holds.
    """
    progress.begin(f"read {name}", len(split))
    images = open_images(
        split.paths,
        size,
        folder=cache_folder() / "images",
        strict=strict,
        budget=None if store_gib is None else int(store_gib * 2**30),
        label=name,
        progress=progress.advance,
    )
    for warning in unreadable_warnings(images.problems, f"{len(split):,} {name} images", " (--strict stops instead)"):
        logger.warning("%s", warning)
    return ImageSet(split.subset(images.readable) if images.problems else split, images.pixels)


def find_dataset(name: str, config: RunConfig, data_root: Path | None, progress: Progress) -> ReIDDataset:
    """Find a data set, without its cameras where the settings leave them out.

    Raises:
        DataError: It does not exist or cannot be understood.
    """
    progress.begin(f"find {name}", 1)
    dataset = load_dataset(name, data_root, progress=progress.advance)
    return dataset if config.data.cameras else dataset.without_cameras()


def read_dataset(dataset: ReIDDataset, name: str, config: RunConfig, progress: Progress) -> ImageSet:
    """Open a split of a data set, `train`, `query` or `gallery`, at the model's input size.

    Raises:
        DataError: The split is empty, or an error of `read_split`.
    """
    size, strict = config.backbone.image_size, config.data.strict
    return read_split(
        find_split(dataset, name),
        f"{dataset.name} {name}",
        size,
        strict=strict,
        progress=progress,
        store_gib=config.data.store_gib,
    )


def find_split(dataset: ReIDDataset, name: str) -> Split:
    """A split of a data set, `train`, `query` or `gallery`, that cannot be done without.

    Raises:
        DataError: It is empty.
    """
    split: Split = getattr(dataset, name)
    if not len(split):
        raise DataError(
            f"{dataset.name} ({dataset.root}) has no {name} images, which are needed here; complete it, or name "
            "another data set"
        )
    return split


def read_benchmark(dataset: ReIDDataset, config: RunConfig, progress: Progress) -> tuple[ImageSet, ImageSet] | None:
    """Open query and gallery of a data set; None, with a warning, if it lacks one of them.

    Raises:
        DataError: An error of `read_split`.
    """
    missing = [name for name in ("query", "gallery") if not len(getattr(dataset, name))]
    if missing:
        logger.warning(
            "%s has no %s images: it is trained on, but nothing is evaluated (mAP and Rank-1 need both)",
            dataset.name,
            " and no ".join(missing),
        )
        return None
    query, gallery = (read_dataset(dataset, name, config, progress) for name in ("query", "gallery"))
    return query, gallery
