"""Image files: finding, reading and resizing them."""

import os
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.lmdb import open_entry
from reidkit.errors import DataError

__all__ = [
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "DecodedImages",
    "Pixels",
    "StoredImages",
    "decode_images",
    "image_files",
    "iterate_images",
    "open_image",
    "read_images",
    "reason_of",
    "resize_image",
    "unreadable_image",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})

MAX_PIXELS = 178_956_970
"""Width times height beyond which a file is taken for a decompression bomb; Pillow's own limit for an error."""

IMAGE_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its suffix: some of its other readers call programs (EPS: Ghostscript)."""

_MAX_SIDE = 2**18  # pixels; the filter's weights and what lies between its two passes grow with the longer side
_SCANS = 10  # of a usual progressive JPEG; each one passes over the whole image
_STRIP = 2**22  # pixels that are brought to RGB at a time
_BACKGROUND = "white"  # behind transparent parts, as viewers show them
_AHEAD = 256  # images decoded or waiting to be, at most (or two per worker)
_CHUNK = 16  # images per task: handing over one at a time costs a tenth of decoding a small one

Progress = Callable[[int, int], None]


class Pixels(Protocol):
    """M images of one size, in memory or not: what batches are cut from."""

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


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name; dot-files and other suffixes are passed over."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return [folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def iterate_images(
    paths: Sequence[Path], size: tuple[int, int], workers: int | None = None
) -> Generator[NDArray[np.uint8] | str, None, None]:
    """Read images one after another as RGB, resized to one size with Pillow's antialiased bicubic filter.

    Lazy: whatever N, about 256 images (or two per worker) are in memory or waiting at a time. What happens to files
    that are not plain 8-bit RGB:

    * Truncated or empty files, texts, folders, pipes, broken links and links to themselves are unreadable, as is an
      image of more than `MAX_PIXELS` pixels, of more than 262,144 along one side, or a progressive JPEG of less than
      that with more scans than its size allows. Long and thin ones (30,000 x 1) are resized like any other.
    * BMP, GIF, JPEG, PNG, PPM, TIFF and WebP are read, whatever the suffix says; no other program is ever called.
    * Grey images of 16 bits, and of 32-bit integers, are divided by 257, so that 65535 becomes 255. Floating point is
      taken as 0..1 if nothing exceeds 1, else as 0..255; what is not a number becomes black.
    * Transparent parts (RGBA, grey with alpha, palettes) lie on white.
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
        N * 3 * H * W bytes of pixels, and what could not be read.

    Raises:
        DataError: `strict` and an image is unreadable, or no image at all is readable.
    """
    pixels = np.zeros((len(paths), 3, *size), dtype=np.uint8)
    readable, problems = read_images(paths, size, pixels.__setitem__, strict=strict, workers=workers, progress=progress)
    return DecodedImages(pixels, readable, problems)


def unreadable_image(problem: str) -> DataError:
    """What `strict` raises for the first unreadable image."""
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


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image as its file has it, for `resize_image`; only the header has been read.

    Raises:
        Exception: The header tells that the image is unreadable, as `iterate_images` describes; `reason_of` says why.
    """
    with _open_file(path) as file, _identify(file) as image:
        _check_size(image, file)
        yield image


def reason_of(error: Exception) -> str:
    """Why an image is unreadable, in words."""
    return f"{type(error).__name__}: {(error.strerror if isinstance(error, OSError) else None) or error}"


def _open_file(path: Path) -> BinaryIO:
    """The bytes of an image; all reading goes through here."""
    file = open_entry(path)
    if file.seek(0, os.SEEK_END) == 0:
        file.close()
        raise OSError("the file is empty")
    file.seek(0)
    return file


def _identify(file: BinaryIO) -> Image.Image:
    """Open an image, its pixels not yet read.

    Like `Image.open`, but silent: that one warns of large images and missing plug-ins, and the filters that could hold
    the warnings back are shared by all threads.
    """
    prefix = file.read(16)
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in [name for name in Image.ID if name in IMAGE_FORMATS and name not in tried]:
            tried.add(name)
            factory, accept = Image.OPEN[name]
            fits = accept is None or accept(prefix)
            if not fits or isinstance(fits, str):  # a string says what is not installed
                continue
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # not of this format after all
    raise OSError("not an image of a known format, or its header is damaged")


def _check_size(image: Image.Image, file: BinaryIO) -> None:
    """Hold what a header promises against what can be decoded in bounded memory and time."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"its header promises {width:,} x {height:,} = {width * height:,} pixels, the limit is {MAX_PIXELS:,}"
        )
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"its header promises {width:,} x {height:,} pixels, the limit of a side is {_MAX_SIDE:,}")
    if image.info.get("progressive"):
        at = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(at)
        # Its decoder holds all coefficients, and passes over them once for each scan.
        if width * height * max(scans, _SCANS) > _SCANS * MAX_PIXELS // 3:
            raise ValueError(
                f"it is a progressive JPEG of {width:,} x {height:,} pixels in {scans:,} scans; pixels times scans are "
                f"limited to {_SCANS * MAX_PIXELS // 3:,}"
            )


def resize_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image of `open_image` as 8-bit RGB of another size (W, H); a large one never has a second copy."""
    unit = image.mode == "F" and not any((np.asarray(strip) > 1).any() for strip in _strips(image))
    if image.mode == "RGB" or image.width * image.height <= _STRIP:
        return _as_rgb(image, unit).resize(size, Image.Resampling.BICUBIC)
    # Pillow too shrinks the width first, and rounds before it shrinks the height: the pixels are the same.
    narrow, top = Image.new("RGB", (size[0], image.height)), 0
    for strip in _strips(image):
        part = _as_rgb(strip, unit).resize((size[0], strip.height), Image.Resampling.BICUBIC)
        narrow.paste(part, (0, top))
        top += strip.height
    return narrow.resize(size, Image.Resampling.BICUBIC)


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """An image cut across, from the top."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _as_rgb(image: Image.Image, unit: bool) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image), unit)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _BACKGROUND), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(grey: NDArray[Any], unit: bool) -> NDArray[np.uint8]:
    """(H, W) of 16-bit or 32-bit integers, or of floats (up to 1 if `unit`), as bytes; Pillow would clip to white."""
    if grey.dtype.kind == "f":
        scaled = np.rint(np.clip(np.nan_to_num(grey, nan=0.0) * (255 if unit else 1), 0, 255))
    else:
        scaled = (np.clip(grey.astype(np.int64), 0, 65535) + 128) // 257
    return np.asarray(scaled, dtype=np.uint8)
