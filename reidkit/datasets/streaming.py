"""Images that are decoded when they are asked for, and batches prepared ahead."""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets.decoding import iterate_images, unreadable_image
from reidkit.datasets.image_files import NAMED
from reidkit.errors import ConfigError

__all__ = ["StreamedImages", "prefetch"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
_GREY = 128


class StreamedImages:
    """N images that stay on the disk and are decoded, by a pool of workers, each time they are indexed.

    It satisfies `Pixels`. Unreadable images are grey; the first few are named in the log, the others counted.

    Args:
        paths: N image files.
        size: (H, W) in pixels.
        strict: Raise at an unreadable image instead.
        workers: Threads; None is one per processor.
    """

    def __init__(
        self, paths: Sequence[Path], size: tuple[int, int], *, strict: bool = False, workers: int | None = None
    ) -> None:
        self._paths = paths
        self._size = size
        self._strict = strict
        self._workers = workers
        self._unreadable: set[Path] = set()

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        return (len(self._paths), 3, *self._size)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Decode rows: (B, 3, H, W) RGB.

        Raises:
            DataError: An image is unreadable and `strict` holds.
            IndexError: A row does not exist.
        """
        if isinstance(rows, slice):
            paths = self._paths[rows]
        elif rows.dtype.kind in "iu":
            paths = [self._paths[row] for row in rows.tolist()]
        else:
            raise IndexError(f"rows are chosen by integers, not by {rows.dtype}; use np.flatnonzero for a mask")
        pixels = np.empty((len(paths), 3, *self._size), dtype=np.uint8)
        with closing(iterate_images(paths, self._size, self._workers)) as images:
            for row, (path, image) in enumerate(zip(paths, images, strict=True)):
                if isinstance(image, str):
                    self._report(path, image)
                    pixels[row] = _GREY
                else:
                    pixels[row] = image
        return pixels

    def _report(self, path: Path, reason: str) -> None:
        if self._strict:
            raise unreadable_image(f"{path}: {reason}")
        if path in self._unreadable:
            return
        self._unreadable.add(path)
        count = len(self._unreadable)
        if count <= NAMED:
            logger.warning("unreadable image, grey instead: %s: %s", path, reason)
        elif count in (10, 100) or count % 1000 == 0:
            logger.warning("%s images are unreadable so far and grey instead (--strict stops instead)", f"{count:,}")


def prefetch(batches: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Prepare batches in a background thread, up to `depth` ahead of the consumer.

    It starts with the first batch asked for. An exception of `batches` arrives with its traceback, after the batches
    before it; closing the iterator early waits for no more than the batch that is being prepared. Gradient modes and
    other settings of a thread are not those of the consumer.

    Args:
        batches: Any iterable; a generator is closed at the end.
        depth: Batches kept ready, at least 1.

    Raises:
        ConfigError: `depth` is below 1.
    """
    if depth < 1:
        raise ConfigError(f"depth={depth}: at least 1 batch must be prepared ahead; choose 2 if in doubt")
    return _prefetch(iter(batches), depth)


def _prefetch(batches: Iterator[T], depth: int) -> Generator[T, None, None]:
    def advance() -> tuple[T, ...]:
        return tuple(islice(batches, 1))

    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(pool.submit(advance) for _ in range(depth))
        while batch := ahead.popleft().result():
            ahead.append(pool.submit(advance))
            yield batch[0]
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(batches, Generator):
            batches.close()
