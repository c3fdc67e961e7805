"""Decoding images and resizing them."""

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.image_files import open_image, reason_of
from reidkit.errors import DataError

__all__ = [
    "DecodedImages",
    "Pixels",
    "StoredImages",
    "decode_images",
    "iterate_images",
    "read_images",
    "resize_image",
    "unreadable_image",
]

_BACKGROUND = "white"  # behind transparent parts, as viewers show them
_AHEAD = 256  # images decoded or waiting to be, at most (or two per worker)
_CHUNK = 16  # images per task: handing over one at a time costs a tenth of decoding a small one

Progress = Callable[[int, int], None]


class Pixels(Protocol):
    """M images of one size, in memory or not, from which batches are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, 3, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class DecodedImages(NamedTuple):
    """Images in memory, and those that could not be read."""

    pixels: NDArray[np.uint8]
    """(N, 3, H, W) RGB; rows of unreadable images are black."""
    readable: NDArray[np.bool_]
    """(N,) which rows hold an image."""
    problems: tuple[str, ...]
    """One line for every unreadable file: its path and the reason."""


class StoredImages(NamedTuple):
    """Images ready to be batched: in a store, in memory or decoded on the fly."""

    pixels: Pixels
    """(M, 3, H, W) RGB of the readable images, not to be written to; M = N where they are decoded on the fly."""
    readable: NDArray[np.bool_]
    """(N,) which images are among the rows of `pixels`."""
    problems: tuple[str, ...]
    """One line for every unreadable file: its path and the reason."""


def iterate_images(
    paths: Sequence[Path], size: tuple[int, int], workers: int | None = None
) -> Generator[NDArray[np.uint8] | str, None, None]:
    """Read images one after another as RGB, resized to one size with Pillow's antialiased bicubic filter.

    Lazy: whatever N, about 256 images (or two per worker) are in memory or waiting at a time. Files that are not plain
    8-bit RGB:

    * Truncated or empty files, texts, folders, pipes, broken links and links to themselves are unreadable, as are
      images above Pillow's limit for decompression bombs (178,956,970 pixels; it warns above half of that). Long and
      thin images (30,000 x 1) are resized like any other.
    * BMP, GIF, JPEG, PNG, PPM, TIFF and WebP are read, whatever the suffix says; no other program is ever called.
    * Grey images of 16 bits, and of 32-bit integers, are divided by 257, so that 65535 becomes 255. Floating point is
      taken as 0..1 if nothing exceeds 1, else as 0..255; NaN becomes black.
    * Transparent parts (RGBA, grey with alpha, palettes) become white.
    * CMYK JPEGs are read as Adobe writes them (inverted), palettes are looked up.
    * Of several frames the first is taken. An EXIF orientation is ignored, as in the public re-identification code.

    Args:
        paths: N image files.
        size: (H, W) in pixels.
        workers: Threads; None is one per processor (Pillow decodes and resizes outside the interpreter lock).

    Yields:
        For each path in order, its (3, H, W) uint8 pixels, or the reason why it is unreadable.
    """
    workers = workers or os.cpu_count() or 1
    chunk = max(1, min(_CHUNK, _AHEAD // (2 * workers)))
    starts = iter(range(0, len(paths), chunk))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def submit(count: int) -> list[Future[list[NDArray[np.uint8] | str]]]:
        chosen = (paths[start : start + chunk] for start in islice(starts, count))
        return [pool.submit(_decode_all, part, size) for part in chosen]

    try:
        ahead = deque(submit(2 * workers))
        while ahead:
            images = ahead.popleft().result()
            ahead.extend(submit(1))
            yield from images
    finally:
        pool.shutdown(cancel_futures=True)


def read_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    keep: Callable[[int, NDArray[np.uint8]], object],
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Hand every readable image to `keep(index, pixels)`, in order; the other arguments are those of `decode_images`.

    Returns:
        (N,) which images are readable, and a line for every one that is not.

    Raises:
        DataError: `strict` and an image is unreadable, or no image at all is readable.
    """
    readable = np.ones(len(paths), dtype=np.bool_)
    problems: list[str] = []
    with closing(iterate_images(paths, size, workers)) as images:
        for index, (path, image) in enumerate(zip(paths, images, strict=True)):
            if isinstance(image, str):
                problems.append(f"{path}: {image}")
                readable[index] = False
                if strict:
                    raise unreadable_image(problems[0])
            else:
                keep(index, image)
            if progress is not None and (index % 256 == 255 or index + 1 == len(paths)):
                progress(index + 1, len(paths))
    if problems and not readable.any():
        raise DataError(
            f"none of {len(paths):,} images is readable; the first: {problems[0]}. Name a folder of whole image files"
        )
    return readable, tuple(problems)


def decode_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DecodedImages:
    """Read images into memory, as `iterate_images` describes.

    Args:
        paths: N image files.
        size: (H, W) in pixels.
        strict: Raise at the first unreadable image instead of reporting it.
        workers: Threads; None is one per processor.
        progress: Called with (images done, N) now and then.

    Returns:
        N * 3 * H * W bytes of pixels, and the unreadable images.

    Raises:
        DataError: `strict` and an image is unreadable, or no image at all is readable.
    """
    pixels = np.zeros((len(paths), 3, *size), dtype=np.uint8)
    readable, problems = read_images(paths, size, pixels.__setitem__, strict=strict, workers=workers, progress=progress)
    return DecodedImages(pixels, readable, problems)


def unreadable_image(problem: str) -> DataError:
    """Error of `strict` for the first unreadable image."""
    return DataError(f"unreadable image {problem}; repair or remove it, or go on without --strict")


def _decode_all(paths: Sequence[Path], size: tuple[int, int]) -> list[NDArray[np.uint8] | str]:
    return [_decode(path, size) for path in paths]


def _decode(path: Path, size: tuple[int, int]) -> NDArray[np.uint8] | str:
    """One image as (3, H, W) RGB bytes, or the reason why it cannot be read."""
    height, width = size
    try:
        with open_image(path) as image:
            resized = resize_image(image, (width, height))
    # Pillow's decoders raise every kind of error on damaged files; each means the same here.
    except Exception as error:
        return reason_of(error)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def resize_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Convert an image to 8-bit RGB, as `iterate_images` describes, and resize it to (W, H)."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, _BACKGROUND), layer)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.resize(size, Image.Resampling.BICUBIC)


def _eight_bits(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) of 16-bit or 32-bit integers, or of floats, as bytes; Pillow would clip to white."""
    if grey.dtype.kind == "f":
        scale = 1 if (grey > 1).any() else 255
        scaled = np.rint(np.clip(np.nan_to_num(grey, nan=0.0) * scale, 0, 255))
    else:
        scaled = (np.clip(grey, 0, 65535).astype(np.int32) + 128) // 257
    return np.asarray(scaled, dtype=np.uint8)
