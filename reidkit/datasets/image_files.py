"""Image files of a split, ordinary ones and entries of an LMDB: finding and opening them."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

from reidkit.datasets.lmdb_images import entry_length, is_entry, read_entry

__all__ = [
    "IMAGE_SUFFIXES",
    "NAMED",
    "ImageFileStatus",
    "image_file_status",
    "image_files",
    "open_image",
    "open_image_file",
    "reason_of",
    "unreadable_warnings",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
"""Suffixes, in lower case, of files that are taken for images."""

_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the suffix: some of Pillow's other readers call programs (EPS: Ghostscript)."""

NAMED = 5
"""Unreadable images that a message names; the others are counted."""


class ImageFileStatus(NamedTuple):
    """Size and time of an image file: when they change, so may the image."""

    size: int
    """Bytes of the encoded image."""
    mtime_ns: int
    """Time of the last change of the file, or of the database that holds the image."""


def image_files(folder: Path) -> list[Path]:
    """List the images directly in a folder, by name; dot-files and other suffixes are passed over."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return [folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def open_image_file(path: Path) -> BinaryIO:
    """Open the encoded bytes of an image: of a file, or of an entry of an LMDB.

    Raises:
        OSError: The file or database cannot be opened, or the database has no such entry.
        DataError: The database is damaged or incomplete, or the package `lmdb` is not installed.
    """
    if is_entry(path):
        return BytesIO(read_entry(path))
    # Opening a pipe would wait for a writer for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("a folder or a device, not a file")
    return path.open("rb")


def image_file_status(path: Path) -> ImageFileStatus:
    """Size and time of an image; an entry of an LMDB has the time of the database. Errors as `open_image_file`."""
    if is_entry(path):
        return ImageFileStatus(entry_length(path), path.parent.stat().st_mtime_ns)
    status = path.stat()
    return ImageFileStatus(status.st_size, status.st_mtime_ns)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image of a split with Pillow; only its header has been read.

    Raises:
        Exception: The image is unreadable: it is missing, damaged, no BMP, GIF, JPEG, PNG, PPM, TIFF or WebP, or larger
            than Pillow's limit for decompression bombs (178,956,970 pixels). `reason_of` says why.
    """
    with open_image_file(path) as file, Image.open(file, formats=_FORMATS) as image:
        yield image


def reason_of(error: Exception) -> str:
    """Why an image is unreadable, in words."""
    if isinstance(error, UnidentifiedImageError):
        return "empty, damaged, or not an image of a known format"
    return f"{type(error).__name__}: {(error.strerror if isinstance(error, OSError) else None) or error}"


def unreadable_warnings(problems: Sequence[str], images: str, hint: str = "") -> list[str]:
    """Warnings of unreadable images that are left out: one for each of the first five, and one that counts them all.

    Args:
        problems: Path and reason of every one.
        images: Number and kind of all images, "21 query images".
        hint: Follows the count.
    """
    if not problems:
        return []
    rest = len(problems) - NAMED
    others = f", {rest:,} of them not named above" if rest > 0 else ""
    count = f"{len(problems):,} of {images} are unreadable and left out{others}{hint}"
    return [*(f"unreadable image, left out: {problem}" for problem in problems[:NAMED]), count]
