"""Image files: finding, reading and resizing them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "DecodedImages", "decode_images", "image_files"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


class DecodedImages(NamedTuple):
    """Images in memory, and those that could not be read."""

    pixels: NDArray[np.uint8]
    """(N, 3, H, W) RGB; rows of unreadable images are black."""
    readable: NDArray[np.bool_]
    """(N,) which rows hold an image."""
    problems: tuple[str, ...]
    """One line for every unreadable file: its path and the reason."""


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name; dot-files and other suffixes are passed over."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return [folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def decode_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DecodedImages:
    """Read images as RGB, resized to one size with Pillow's antialiased bicubic filter.

    Args:
        paths: N image files.
        size: (H, W) in pixels.
        strict: Raise at the first unreadable image instead of reporting it.
        workers: Threads; None is one per processor (Pillow decodes and resizes outside the interpreter lock).
        progress: Called with (images done, N) now and then.

    Returns:
        N * 3 * H * W bytes of pixels, and what could not be read.

    Raises:
        DataError: `strict` and an image is unreadable, or no image at all is readable.
    """
    height, width = size
    pixels = np.zeros((len(paths), 3, height, width), dtype=np.uint8)
    readable = np.ones(len(paths), dtype=np.bool_)
    problems: list[str] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = pool.map(lambda path: _decode(path, size), paths)
        for index, (path, result) in enumerate(zip(paths, results, strict=True)):
            if isinstance(result, str):
                problems.append(f"{path}: {result}")
                readable[index] = False
                if strict:
                    pool.shutdown(cancel_futures=True)
                    raise DataError(f"unreadable image {problems[0]}; repair or remove it, or go on without --strict")
            else:
                pixels[index] = result
            if progress is not None and (index % 256 == 255 or index + 1 == len(paths)):
                progress(index + 1, len(paths))
    if paths and not readable.any():
        raise DataError(f"none of {len(paths):,} images is readable; the first: {problems[0]}")
    return DecodedImages(pixels, readable, tuple(problems))


def _decode(path: Path, size: tuple[int, int]) -> NDArray[np.uint8] | str:
    """One image as (3, H, W) RGB bytes, or the reason why it cannot be read."""
    height, width = size
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"
    return np.asarray(resized).transpose(2, 0, 1)
