"""Facts about image files that need no decoding: sizes, damage, copies."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.image_files import image_file_status, open_image, open_image_file, reason_of

__all__ = ["FileFacts", "inspect_files"]

_THREADS = 8  # files are small: most of the time is waiting for the disk
_PROGRESS_EVERY = 256

_Measure = tuple[int, int, int]


class FileFacts(NamedTuple):
    """N images as files."""

    sizes: NDArray[np.int64]
    """(N, 2) height and width in pixels, as the files' headers say; 0 where there is none."""
    duplicates: tuple[tuple[int, ...], ...]
    """Groups of two or more images with the same bytes, as ascending indices; groups by their first image."""
    problems: tuple[str, ...]
    """One line for every file that is unreadable by its header: its path and the reason."""


def inspect_files(paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> FileFacts:
    """Read the header of every image, and all bytes of those that have the same length as another.

    Args:
        paths: N images of splits.
        progress: Called with (files done, files to do) now and then; the total grows once, by the files to compare.
    """
    lengths = np.zeros(len(paths), dtype=np.int64)
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    problems = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, measured in enumerate(pool.map(_measure, paths)):
            if isinstance(measured, str):
                problems.append(f"{paths[index]}: {measured}")
            else:
                lengths[index], *sizes[index] = measured
            if progress is not None and index % _PROGRESS_EVERY == 0:
                progress(index, len(paths))
        alike = _same_length(lengths)
        copies: dict[bytes, list[int]] = {}
        for done, (index, digest) in enumerate(
            zip(alike, pool.map(_digest, [paths[index] for index in alike]), strict=True)
        ):
            if digest is not None:
                copies.setdefault(digest, []).append(index)
            if progress is not None and done % _PROGRESS_EVERY == 0:
                progress(len(paths) + done, len(paths) + len(alike))
    duplicates = sorted(tuple(group) for group in copies.values() if len(group) > 1)
    return FileFacts(sizes, tuple(duplicates), tuple(problems))


def _measure(path: Path) -> _Measure | str:
    """Bytes, height and width of an image, or the reason why it has none."""
    try:
        with open_image(path) as image:
            return image_file_status(path).size, image.height, image.width
    # Pillow raises many kinds of errors on damaged files; each means the same here.
    except Exception as error:
        return reason_of(error)


def _same_length(lengths: NDArray[np.int64]) -> list[int]:
    """Images that are as many bytes long as another one."""
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    found: list[int] = np.flatnonzero((counts[inverse] > 1) & (lengths > 0)).tolist()
    return found


def _digest(path: Path) -> bytes | None:
    """A fingerprint of an image's bytes; None if it has vanished meanwhile."""
    try:
        with open_image_file(path) as file:
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError:
        return None
