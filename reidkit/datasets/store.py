"""The image store: every image decoded and resized once, into files that are mapped into memory.

    FOLDER/<key>/pixels.bin     (M, 3, H, W) uint8, the readable images in order
    FOLDER/<key>/index.json     their description and checksums; its time of change is the time of last use
    FOLDER/<key>.building/      a store that is being built, or that a killed process left unfinished
    FOLDER/<key>.lock           held while a store is built or removed

A process that uses a store holds a shared lock on pixels.bin for as long as it is mapped.
"""

import base64
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from reidkit.datasets.decoding import Progress, StoredImages, decode_images, read_images, unreadable_image
from reidkit.datasets.image_files import image_file_status
from reidkit.datasets.streaming import StreamedImages
from reidkit.errors import DataError
from reidkit.storage import NotAFileError, open_file

__all__ = ["DEFAULT_BUDGET", "StoreRecord", "evict", "list_stores", "open_images"]

logger = logging.getLogger(__name__)

_GIB = 2**30
DEFAULT_BUDGET = 64 * _GIB
"""Bytes that all stores of a folder may take together: half a million images of 256 x 128 are 46 GiB."""

_FORMAT = 1
_BLOCK = 16 * 2**20  # bytes under one checksum
_RESERVE = 4 * _GIB  # left free on the disk
_BUILDING = ".building"
_Read = Callable[[Callable[[int, NDArray[np.uint8]], object]], tuple[NDArray[np.bool_], tuple[str, ...]]]
_ENTRY = re.compile(rf"[0-9a-f]{{16}}({re.escape(_BUILDING)})?")


class StoreRecord(NamedTuple):
    """One store on the disk."""

    key: str
    label: str
    """Name of the images; empty where it is not known."""
    images: int
    """Rows; 0 where the number is not known."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    bytes: int
    last_used: float
    """Seconds since 1970."""
    complete: bool
    """False while it is built, and for leftovers of killed processes."""
    in_use: bool


class _Index(BaseModel):
    """index.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    size: tuple[int, int]
    images: int
    rows: int
    readable: str  # one bit per image, compressed, base64
    problems: tuple[str, ...]
    bytes: int  # of pixels.bin, as its time of change and its checksums per block
    mtime_ns: int
    crc32: tuple[int, ...]
    created: float


class _DamagedError(Exception):
    """The files of a store contradict its index."""


_UNUSABLE = (FileNotFoundError, NotAFileError, _DamagedError)


def open_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    *,
    folder: Path,
    strict: bool = False,
    budget: int | None = None,
    label: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
) -> StoredImages:
    """Open images of one size: decoded once, as `iterate_images` describes, and mapped into memory from then on.

    A store belongs to the files' names, sizes and times, the image size, the filter and the version of Pillow. It is
    checked on opening: size and time of the file, or else all its checksums, and two checksums always; a damaged one
    is built again. Several processes may open the same images at once: one builds, the others wait.

    Images that exceed the budget, after the least recently used stores have been removed, are decoded each time they
    are asked for. So are those of a folder that cannot be written, or held in memory if they are below 1 GiB.

    Args:
        paths: N image files.
        size: (H, W) in pixels.
        folder: Folder of the stores.
        strict: Raise at an unreadable image instead of leaving it out.
        budget: Bytes that all stores may take together; None is `DEFAULT_BUDGET`. 4 GiB of the disk stay free.
        label: Name of the images, for messages and lists.
        workers: Threads that decode; None is one per processor.
        progress: Called with (images done, N) now and then.

    Raises:
        DataError: `strict` and an image is unreadable, or no image at all is readable.
    """
    if not len(paths):
        return StoredImages(np.empty((0, 3, *size), dtype=np.uint8), np.empty(0, dtype=np.bool_), ())
    read = partial(read_images, paths, size, strict=strict, workers=workers, progress=progress)
    needed, limit = len(paths) * 3 * size[0] * size[1], DEFAULT_BUDGET if budget is None else budget
    images = None
    if needed <= limit:  # the times of millions of files are not looked up in vain
        try:
            images = _open_or_build(folder / _key(paths, size), label, size, needed, limit, read)
        except OSError as error:
            logger.warning(
                "images cannot be stored in %s (%s) and must be decoded by every run; free some space, or name another "
                "folder in REIDKIT_CACHE",
                *(folder, error.strerror or error),
            )
            if needed < _GIB:
                decoded = decode_images(paths, size, strict=strict, workers=workers, progress=progress)
                return StoredImages(decoded.pixels[decoded.readable], decoded.readable, decoded.problems)
    if images is None:
        logger.info(
            "%s (%.2f GiB) are decoded each time they are used: no room in %.2f GiB of stores, or on the disk of %s",
            *(label or "images", needed / _GIB, limit / _GIB, folder),
        )
        streamed = StreamedImages(paths, size, strict=strict, workers=workers)
        return StoredImages(streamed, np.ones(len(paths), dtype=np.bool_), ())
    if strict and images.problems:
        raise unreadable_image(images.problems[0])
    if progress is not None:
        progress(len(paths), len(paths))
    return images


def list_stores(folder: Path) -> list[StoreRecord]:
    """The stores in a folder, complete or not, the least recently used first."""
    if not folder.is_dir():
        return []
    records = []
    for entry in filter(lambda entry: _ENTRY.fullmatch(entry.name) and entry.is_dir(), folder.iterdir()):
        with suppress(FileNotFoundError):  # removed meanwhile
            records.append(_record(entry))
    return sorted(records, key=lambda record: record.last_used)


def evict(
    folder: Path, *, keys: Sequence[str] | None = None, older_than: float | None = None, keep_bytes: int | None = None
) -> list[StoreRecord]:
    """Remove stores and leftovers of killed processes, the least recently used first, none in use; return them.

    Args:
        folder: Folder of the stores.
        keys: Only those whose key begins with one of these.
        older_than: Only those not used for this number of seconds.
        keep_bytes: Stop as soon as the stores that are left take no more than this.

    Raises:
        DataError: A key belongs to no store, or a store cannot be removed.
    """
    stores = list_stores(folder)
    for key in keys or ():
        if not any(store.key.startswith(key) for store in stores):
            known = ", ".join(store.key for store in stores) or "none"
            raise DataError(f"no image store in {folder} has the key {key!r}; name one of those there: {known}")
    left, now, removed = sum(store.bytes for store in stores), time.time(), []
    for store in stores:
        if keep_bytes is not None and left <= keep_bytes:
            break
        chosen = keys is None or store.key.startswith(tuple(keys))
        if not chosen or (older_than is not None and now - store.last_used <= older_than):
            continue
        try:
            if _remove(folder / store.key):
                removed.append(store)
                left -= store.bytes
        except OSError as error:
            raise DataError(f"{folder / store.key} cannot be removed: {error}; mend its permissions") from None
    return removed


def _key(paths: Sequence[Path], size: tuple[int, int]) -> str:
    """Hash of all that the pixels depend on, 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{_FORMAT} {PIL.__version__} bicubic {size[0]}x{size[1]}".encode())
    working_folder = os.getcwd()
    for path in paths:
        name = os.path.join(working_folder, path)
        try:
            facts = "\0{}\0{} {}".format(name, *image_file_status(Path(name)))
        except OSError:
            facts = f"\0{name}\0absent"
        digest.update(facts.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _open_or_build(
    entry: Path, label: str, size: tuple[int, int], needed: int, limit: int, read: _Read
) -> StoredImages | None:
    """The store, or None where there is no room for it."""
    with suppress(*_UNUSABLE):
        return _open(entry, size, needed)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _lock(entry, label):
        try:
            return _open(entry, size, needed)  # another process has built it meanwhile
        except _UNUSABLE as error:
            if entry.exists():
                logger.warning("the stored images in %s are damaged: %s; they are decoded again", entry, error)
        for leftover in (entry, entry.with_suffix(_BUILDING)):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in entry.parent.glob(f"*{_BUILDING}"):
            _remove(leftover)
        if not _make_room(entry.parent, needed, limit):
            return None
        _build(entry, label, size, read)
        return _open(entry, size, needed)


def _lock(entry: Path, label: str) -> AbstractContextManager[object]:
    lock = FileLock(entry.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        logger.info("waiting for another process that builds the image store of %s", label or entry)
        return lock.acquire()


def _open(entry: Path, size: tuple[int, int], needed: int) -> StoredImages:
    """Check and map a store of images of `size`, which would be `needed` bytes if all were readable.

    Raises:
        FileNotFoundError: There is none.
        NotAFileError, _DamagedError: It is damaged.
    """
    index = _read_index(entry)
    if index.size != size or 3 * size[0] * size[1] * index.images != needed:
        raise _DamagedError(f"it is of {index.images:,} images of {index.size[0]:,}x{index.size[1]:,}")
    with open_file(entry / "pixels.bin") as file:
        # Lock it as used: the mapping holds a duplicate of the descriptor, and with it this lock
        with suppress(OSError):  # some file systems know no locks
            fcntl.flock(file, fcntl.LOCK_SH)
        # Size and checksums
        status = os.fstat(file.fileno())
        if status.st_size != index.bytes:
            raise _DamagedError(f"pixels.bin has {status.st_size:,} bytes instead of {index.bytes:,}")
        is_touched = status.st_mtime_ns != index.mtime_ns
        try:
            flat = np.asarray(np.memmap(file, np.uint8, "r"))
            blocks = len(index.crc32)
            # A crash of the machine shows at the end of a file first; other damage is met sooner or later.
            for block in range(blocks) if is_touched else {blocks - 1, secrets.randbelow(blocks)}:
                if zlib.crc32(flat[block * _BLOCK : (block + 1) * _BLOCK].data) != index.crc32[block]:
                    raise _DamagedError(f"block {block + 1} of {blocks} of pixels.bin has another checksum")
            # Rows of readable images
            packed = np.frombuffer(zlib.decompress(base64.b64decode(index.readable)), dtype=np.uint8)
            readable = np.unpackbits(packed, count=index.images).astype(np.bool_)
            if (len(readable), readable.sum()) != (index.images, index.rows):
                raise ValueError(f"{readable.sum():,} of {len(readable):,} images are readable")
            images = StoredImages(flat.reshape(index.rows, 3, *index.size), readable, index.problems)
        except (ValueError, zlib.error) as error:
            raise _DamagedError(f"index.json contradicts itself: {error}") from None
    # Note the use; a store of another user may be read-only
    with suppress(OSError):
        if is_touched:
            _write_index(entry, index.model_copy(update={"mtime_ns": status.st_mtime_ns}))
        os.utime(entry / "index.json")
    return images


def _read_index(entry: Path) -> _Index:
    try:
        with open_file(entry / "index.json") as file:
            return _Index.model_validate_json(file.read())
    except ValueError as error:
        raise _DamagedError(f"index.json cannot be read: {error}") from None


def _text(name: str) -> str:
    """A name as UTF-8, for JSON: names of files may be bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _write_index(entry: Path, index: _Index) -> None:
    temporary = entry / f"index.json.{os.getpid()}"
    with temporary.open("wb") as file:
        file.write(index.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(entry / "index.json")


class _Writer:
    """Appends images to a file and computes the checksums of its blocks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, 0
        self.sums: list[int] = []

    def add(self, _: int, image: NDArray[np.uint8]) -> None:
        self._file.write(image.data)
        flat = image.reshape(-1)
        while len(flat):
            if not self._left:
                self.sums.append(0)
                self._left = _BLOCK
            part = flat[: self._left]
            self.sums[-1] = zlib.crc32(part.data, self.sums[-1])
            self._left -= len(part)
            flat = flat[len(part) :]


def _build(entry: Path, label: str, size: tuple[int, int], read: _Read) -> None:
    """Decode all images into the store; after an error nothing is left of it."""
    temporary = entry.with_suffix(_BUILDING)
    try:
        temporary.mkdir()
        with (temporary / "pixels.bin").open("wb") as file:
            writer = _Writer(file)
            readable, problems = read(writer.add)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        index = _Index(
            label=_text(label),
            size=size,
            images=len(readable),
            rows=int(readable.sum()),
            readable=base64.b64encode(zlib.compress(np.packbits(readable).tobytes())).decode(),
            problems=tuple(map(_text, problems)),
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            crc32=tuple(writer.sums),
            created=time.time(),
        )
        _write_index(temporary, index)
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    logger.info("stored %s images, %.2f GiB, in %s", f"{index.rows:,}", status.st_size / _GIB, entry)


def _make_room(folder: Path, needed: int, limit: int) -> bool:
    """Remove the least recently used stores until `needed` bytes fit; none, if that would not be enough."""
    stores = list_stores(folder)
    occupied = sum(store.bytes for store in stores)
    excess = max(occupied + needed - limit, needed + _RESERVE - shutil.disk_usage(folder).free)
    idle = [store for store in stores if not store.in_use]
    if excess > sum(store.bytes for store in idle):
        return False
    for store in idle:
        if excess > 0 and _remove(folder / store.key):
            logger.info("removed the stored images of %s, not used for the longest time", store.label or store.key)
            excess -= store.bytes
    return excess <= 0


def _remove(entry: Path) -> bool:
    """Remove one store or leftover; False if it is in use or being built."""
    with suppress(Timeout), FileLock(entry.with_suffix(".lock"), timeout=0):
        if not _in_use(entry):
            with suppress(FileNotFoundError):
                shutil.rmtree(entry)
            return True
    return False


def _in_use(entry: Path) -> bool:
    try:
        descriptor = os.open(entry / "pixels.bin", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return False
    except OSError as error:  # else there is no such file, or the file system knows no locks
        return isinstance(error, BlockingIOError)


def _record(entry: Path) -> StoreRecord:
    size = sum(path.lstat().st_size for path in entry.iterdir())
    busy, used = _in_use(entry), entry.stat().st_mtime
    try:
        index, used = _read_index(entry), (entry / "index.json").stat().st_mtime
    except (_DamagedError, OSError):
        return StoreRecord(entry.name, "", 0, (0, 0), size, used, False, busy)
    known = (entry.name, index.label, index.rows, index.size, size, used)
    return StoreRecord(*known, entry.suffix != _BUILDING, busy)
