"""Images that lie in an LMDB database instead of in files of their own.

The layout is the one that LUPerson is given out in (Fu et al., CVPR 2021: a folder `lmdb` with `data.mdb`), and the
usual one: the key is the image's name, the value its encoded bytes (JPEG, PNG). LUPerson's keys are
`country_city_video_image`; its `keys.pkl` repeats them, is a pickle, and is not read.

The database is read by `lmdb_file`, which believes nothing of what a file says, and not by LMDB's own library.

A split names such an image by a path below the database file: `lmdb/data.mdb/00_00_0000_00000001`, the key
percent-encoded. `open_entry` and `entry_status` take such paths and those of ordinary files alike.
"""

import os
import stat
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from PIL import Image

from reidkit.datasets.lmdb_file import DamagedError, LMDBFile, Value
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["DATABASE_KINDS", "EntryStatus", "entry_status", "is_entry", "load_lmdb", "open_entry"]

DATABASE_KINDS = (".mdb", ".lmdb")
"""Suffixes, in lower case, of database files."""

_DATA_FILE = "data.mdb"
_PROBED = 8  # images looked at to learn what the values are
_LARGEST = 2**28  # bytes of an encoded image
_PICKLE_PROTOCOLS = range(2, 6)
_REMEDY = "copy it again, completely, or name another folder"


class EntryStatus(NamedTuple):
    """What tells that an image is not what it was."""

    size: int
    """Bytes of the encoded image."""
    mtime_ns: int
    """When the file, or the database that holds the image, was last written."""


def load_lmdb(root: Path, name: str, version: str = "LMDB of images, no labels") -> ReIDDataset:
    """Read the names of all images in a database as unlabelled training images; query and gallery are empty.

    Args:
        root: Database file, or the folder that holds `data.mdb`.
        name: What to call the data set.
        version: Release or layout, in words.

    Raises:
        DataError: The database is damaged, of another version than LMDB 0.9's, cannot be read or is empty, or its
            values are not encoded images. Pickled values are refused: loading a pickle can run any code.
    """
    path = root / _DATA_FILE if root.is_dir() else root
    try:
        database = _open(path)
        keys = [key for key in database.keys() if not _is_bookkeeping(key)]  # noqa: SIM118  # it is no dict
        samples = [_read(database, _find(database, path, key)) for key in keys[:_PROBED]]
    except DamagedError as error:
        raise DataError(f"{path} is damaged, or no LMDB ({error}); {_REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); name the folder that holds it") from None
    if not keys:
        raise DataError(f"{path} holds no images; an LMDB has an image's name as key and its file as value")
    if not any(_is_image(sample) for sample in samples):
        raise DataError(_not_images(path, keys[0], samples[0]))
    train = make_split([(path / quote(key, safe=""), UNKNOWN, UNKNOWN) for key in keys])
    return ReIDDataset(name, root, version, train, make_split([]), make_split([]))


def is_entry(path: Path) -> bool:
    """Whether a path names an image in a database, and not a file."""
    return path.parent.suffix.lower() in DATABASE_KINDS and path.parent.is_file()


def open_entry(path: Path) -> BinaryIO:
    """Open the encoded bytes of an image of a split: of a file, or of an entry in a database.

    Safe on several threads, and in processes that were forked after the database was first read.

    Raises:
        OSError: The file or database cannot be opened or is damaged, or the database has no such entry, or one of more
            than 256 MiB.
    """
    if not is_entry(path):
        # Opening a pipe would wait for a writer for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("a folder or a device, not a file")
        return path.open("rb")
    try:
        database = _open(path.parent)
        return BytesIO(_read(database, _find(database, path.parent, unquote_to_bytes(path.name))))
    except DamagedError as error:
        raise OSError(f"{path.parent} is damaged ({error})") from None


def entry_status(path: Path) -> EntryStatus:
    """Size and time of an image of a split; an entry of a database has the time of the whole database.

    Raises:
        OSError: The file or entry does not exist, or the database cannot be opened or is damaged.
    """
    if not is_entry(path):
        status = path.stat()
        return EntryStatus(status.st_size, status.st_mtime_ns)
    try:
        value = _find(_open(path.parent), path.parent, unquote_to_bytes(path.name))
    except DamagedError as error:
        raise OSError(f"{path.parent} is damaged ({error})") from None
    return EntryStatus(value.length, path.parent.stat().st_mtime_ns)


def _open(path: Path) -> LMDBFile:
    """The database as it is now; it stays open for the next image."""
    status = os.stat(path)
    return _open_version(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _open_version(path: Path, *_: int) -> LMDBFile:
    return LMDBFile(path)


def _find(database: LMDBFile, path: Path, key: bytes) -> Value:
    value = database.find(key)
    if value is None:
        raise FileNotFoundError(f"{path} has no entry {quote(key, safe='')}")
    return value


def _read(database: LMDBFile, value: Value) -> bytes:
    if value.length > _LARGEST:
        raise DamagedError(f"an entry has {value.length:,} bytes, and an image at most {_LARGEST:,}")
    return database.read(value)


def _is_bookkeeping(key: bytes) -> bool:
    """`__keys__`, `__len__` and their like, which many writers put beside the images."""
    return key.startswith(b"__") and key.endswith(b"__")


def _is_image(value: bytes) -> bool:
    try:
        with Image.open(BytesIO(value)):
            return True
    # Pillow raises many kinds of errors on what is no image.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return False


def _not_images(database: Path, key: bytes, value: bytes) -> str:
    shown = f"{database} holds no encoded images: the value of {key!r}"
    if value[:1] == b"\x80" and value[1:2] and value[1] in _PICKLE_PROTOCOLS:
        problem = "is a pickle, and pickles are not read, for loading one can run any code"
    else:
        problem = f"begins with {value[:12]!r}"
    return f"{shown} {problem}. Write each image's file (JPEG, PNG) as the value, or extract the images into a folder"
