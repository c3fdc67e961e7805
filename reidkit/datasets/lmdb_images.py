"""Images stored in an LMDB database instead of in separate files.

The layout is that of LUPerson (Fu et al., CVPR 2021: a folder `lmdb` with `data.mdb`), and the usual one: the key is
the image's name, the value its encoded bytes (JPEG, PNG). LUPerson's keys are `country_city_video_image`; its
`keys.pkl` repeats them, is a pickle, and is not read.

A split names such an image by a path below the database file: `lmdb/data.mdb/00_00_0000_00000001`, the key
percent-encoded. Other modules open such paths and those of ordinary files alike through `image_files`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from PIL import Image

from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["DATABASE_KINDS", "entry_length", "is_entry", "load_lmdb", "read_entry"]

DATABASE_KINDS = (".mdb", ".lmdb")
"""Suffixes, in lower case, of database files."""

_DATA_FILE = "data.mdb"
_PROBED = 8  # images opened to learn whether the values are images
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


class _Open(NamedTuple):
    """A database that is open."""

    place: str
    """Resolved path."""
    version: tuple[int, int]
    """Size and time of the file."""
    environment: Any


_open: dict[tuple[int, int], _Open] = {}
"""By device and inode: LMDB allows one environment per file in a process."""
_lock = Lock()
"""Held while that changes, and while the process forks."""
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def load_lmdb(root: Path, name: str, version: str = "LMDB of images, no labels") -> ReIDDataset:
    """Read the names of all images in a database as unlabelled training images; query and gallery are empty.

    Args:
        root: Database file, or the folder that holds `data.mdb`.
        name: Name of the data set.
        version: Release or layout, in words.

    Raises:
        DataError: The package `lmdb` is not installed; the database is damaged, incomplete, cannot be read or is empty;
            or its values are not encoded images. Pickled values are refused: loading a pickle can run any code.
    """
    path = root / _DATA_FILE if root.is_dir() else root
    try:
        with _transaction(path) as transaction:
            every = transaction.cursor().iternext(keys=True, values=False)
            keys = [key for key in every if not (key.startswith(b"__") and key.endswith(b"__"))]  # __len__, __keys__
            samples = [transaction.get(key) for key in keys[:_PROBED]]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); name the folder that holds it") from None
    if not keys:
        raise DataError(f"{path} holds no images; an LMDB has an image's name as key and its file as value")
    if not any(map(_is_image, samples)):
        raise DataError(_not_images(path, keys[0], samples[0]))
    train = make_split([(path / quote(key, safe=""), UNKNOWN, UNKNOWN) for key in keys])
    return ReIDDataset(name, root, version, train, make_split([]), make_split([]))


def is_entry(path: Path) -> bool:
    """Whether a path names an image in a database, and not a file."""
    return path.parent.suffix.lower() in DATABASE_KINDS and path.parent.is_file()


def read_entry(path: Path) -> bytes:
    """Read the encoded bytes of an image in a database. Safe on several threads and in forked processes.

    Raises:
        OSError: The database cannot be opened.
        FileNotFoundError: It has no such entry.
        DataError: It is damaged or incomplete, or the package `lmdb` is not installed.
    """
    with _transaction(path.parent) as transaction:
        return bytes(_found(path, transaction.get(unquote_to_bytes(path.name))))


def entry_length(path: Path) -> int:
    """Number of encoded bytes of an image in a database, without reading them; errors as `read_entry`."""
    with _transaction(path.parent, buffers=True) as transaction:
        return len(_found(path, transaction.get(unquote_to_bytes(path.name))))


def _found(path: Path, value: Any) -> Any:
    if value is None:
        raise FileNotFoundError(f"{path.parent} has no entry {path.name}")
    return value


@contextmanager
def _transaction(path: Path, *, buffers: bool = False) -> Iterator[Any]:
    """Read from a database; with `buffers`, values are views of the file that end with the transaction."""
    try:
        import lmdb
    except ImportError:
        raise DataError(f"reading {path} needs the package lmdb: pip install 'reidkit[lmdb]'") from None
    try:
        with _environment(path, lmdb.open).begin(buffers=buffers) as transaction:
            yield transaction
    except lmdb.Error as error:
        raise DataError(f"{path} is damaged, or no LMDB ({error}); copy it again, or name another folder") from None


def _environment(path: Path, open_environment: Callable[..., Any]) -> Any:
    """The environment of a database as the file is now; without locks, so that forked processes can use it too."""
    place, status = os.path.realpath(path), os.stat(path)
    key, version = (status.st_dev, status.st_ino), (status.st_size, status.st_mtime_ns)
    with _lock:
        if key not in _open or _open[key].version != version:
            for outdated in [other for other, known in _open.items() if other == key or known.place == place]:
                del _open[outdated]  # closes it, as soon as no thread reads from it
            environment = open_environment(
                place, subdir=False, readonly=True, lock=False, readahead=False, create=False
            )
            # LMDB maps the file: reading beyond the end of an incomplete copy would end the process.
            needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if status.st_size < needed:
                raise DataError(
                    f"{path} is damaged, or no LMDB (it has {status.st_size:,} bytes of {needed:,}); copy it again, "
                    "completely"
                )
            _open[key] = _Open(place, version, environment)
        return _open[key].environment


def _is_image(value: bytes) -> bool:
    # Pillow raises many kinds of errors on bytes that are no image.
    with suppress(OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError), Image.open(BytesIO(value)):
        return True
    return False


def _not_images(database: Path, key: bytes, value: bytes) -> str:
    shown = f"{database} holds no encoded images: the value of {key!r}"
    if value.startswith(_PICKLES):
        problem = "is a pickle, and pickles are not read, for loading one can run any code"
    else:
        problem = f"begins with {value[:12]!r}"
    return f"{shown} {problem}. Write each image's file (JPEG, PNG) as the value, or extract the images into a folder"
