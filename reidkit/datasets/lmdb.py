"""Images that lie in an LMDB database instead of in files of their own.

The layout is the one that LUPerson is given out in (Fu et al., CVPR 2021: a folder `lmdb` with `data.mdb`), and the
usual one: the key is the image's name, the value its encoded bytes (JPEG, PNG). LUPerson's keys are
`country_city_video_image`; its `keys.pkl` repeats them, is a pickle, and is not read.

A split names such an image by a path below the database file: `lmdb/data.mdb/00_00_0000_00000001`, the key
percent-encoded. `open_entry` and `entry_status` take such paths and those of ordinary files alike.
"""

import stat
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from PIL import Image

from reidkit.datasets.splits import UNKNOWN, ReIDDataset, make_split
from reidkit.errors import DataError

if TYPE_CHECKING:
    import lmdb

__all__ = ["DATABASE_KINDS", "EntryStatus", "entry_status", "is_entry", "load_lmdb", "open_entry"]

DATABASE_KINDS = (".mdb", ".lmdb")
"""Suffixes, in lower case, of database files."""

_DATA_FILE = "data.mdb"
_PROBED = 8  # images looked at to learn what the values are
_PICKLE_PROTOCOLS = range(2, 6)
_SMALLEST_NODE = 8  # bytes

# LMDB trusts its files: where one points beyond its end, the process that follows dies. So another goes first. Values
# on pages of their own are not read, which would take hours; that they end within the file is seen by their address.
_PROBE = rf"""
import os, re, sys
import lmdb, numpy
database = os.path.realpath(sys.argv[1])
size = os.path.getsize(database)
environment = lmdb.open(database, subdir=False, readonly=True, lock=False, readahead=False)
pages, page = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
if pages * page > size:
    sys.exit(f"it has {{size:,}} bytes of {{pages * page:,}}")
maps = open("/proc/self/maps", encoding="utf-8", errors="surrogateescape").read()
start = min(int(found[1], 16) for found in re.finditer(r"^(\w+)-.*" + re.escape(database) + "$", maps, re.M))
with environment.begin(buffers=True) as transaction:
    for number, (key, value) in enumerate(transaction.cursor()):
        bytes(key)
        if len(value) < page:
            bytes(value)
        elif numpy.frombuffer(value, numpy.uint8).ctypes.data + len(value) > start + size:
            sys.exit("a value reaches beyond its end")
        if number > size // {_SMALLEST_NODE}:
            sys.exit("it has more entries than bytes")
"""

_environments: dict[tuple[int, int], "lmdb.Environment"] = {}
_opening = threading.Lock()


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
        DataError: The package lmdb is not installed, the database is damaged, cannot be read or is empty, or its values
            are not encoded images. Pickled values are refused: loading a pickle can run any code.
    """
    database = root / _DATA_FILE if root.is_dir() else root
    environment = _environment(database)
    import lmdb

    _require_whole(database)
    try:
        with environment.begin() as transaction:
            keys = [key for key in transaction.cursor().iternext(values=False) if not _is_bookkeeping(key)]
            samples = [transaction.get(key) or b"" for key in keys[:_PROBED]]
    except lmdb.Error as error:
        raise DataError(_damaged(database, error)) from None
    if not keys:
        raise DataError(f"{database} holds no images; an LMDB has an image's name as key and its file as value")
    if not any(_is_image(sample) for sample in samples):
        raise DataError(_not_images(database, keys[0], samples[0]))
    train = make_split([(database / quote(key, safe=""), UNKNOWN, UNKNOWN) for key in keys])
    return ReIDDataset(name, root, version, train, make_split([]), make_split([]))


def is_entry(path: Path) -> bool:
    """Whether a path names an image in a database, and not a file."""
    return path.parent.suffix.lower() in DATABASE_KINDS and path.parent.is_file()


def open_entry(path: Path) -> BinaryIO:
    """Open the encoded bytes of an image of a split: of a file, or of an entry in a database.

    Safe on several threads, and in processes that were forked after the database was first read.

    Raises:
        OSError: The file cannot be opened, or the database has no such entry.
        DataError: The database cannot be opened.
    """
    if not is_entry(path):
        # Opening a pipe would wait for a writer for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("a folder or a device, not a file")
        return path.open("rb")
    environment = _environment(path.parent)
    import lmdb

    try:
        with environment.begin() as transaction:
            value = transaction.get(unquote_to_bytes(path.name))
    except lmdb.Error as error:
        raise OSError(f"{path.parent} is damaged ({error})") from None
    if value is None:
        raise FileNotFoundError(f"{path.parent} has no entry {path.name}")
    return BytesIO(value)


def entry_status(path: Path) -> EntryStatus:
    """Size and time of an image of a split; an entry of a database has the time of the whole database.

    Raises:
        OSError: The file or entry does not exist.
        DataError: The database cannot be opened.
    """
    if not is_entry(path):
        status = path.stat()
        return EntryStatus(status.st_size, status.st_mtime_ns)
    # A buffer has the length of a value without reading its pages.
    with _environment(path.parent).begin(buffers=True) as transaction:
        value = transaction.get(unquote_to_bytes(path.name))
        if value is None:
            raise FileNotFoundError(f"{path.parent} has no entry {path.name}")
        return EntryStatus(len(value), path.parent.stat().st_mtime_ns)


def _environment(database: Path) -> "lmdb.Environment":
    """The database, opened once by file and not by name: LMDB allows no second time in a process.

    Forked processes go on with their parent's: it is read-only and has no locks, so nothing in it belongs to a process.
    """
    try:
        status = database.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "no file")
    except OSError as error:
        raise DataError(f"{database} cannot be read ({error.strerror}); name the folder that holds it") from None
    key = status.st_dev, status.st_ino
    if key not in _environments:
        with _opening:
            if key not in _environments:
                _environments[key] = _open(database)
    return _environments[key]


def _open(database: Path) -> "lmdb.Environment":
    try:
        import lmdb
    except ImportError:
        raise DataError(
            f"{database} is an LMDB, and the package lmdb is not installed: pip install 'reidkit[lmdb]', or extract "
            "the images into a folder"
        ) from None
    try:
        # Read-only folders have no place for locks, and images are read in random order.
        return lmdb.open(str(database), subdir=False, readonly=True, lock=False, readahead=False, max_spare_txns=64)
    except lmdb.Error as error:
        raise DataError(
            f"{database} cannot be opened as an LMDB ({error}); copy it again, completely, or name another folder"
        ) from None


def _require_whole(database: Path) -> None:
    """Have another process walk through all of a database, which dies where the file is damaged.

    Raises:
        DataError: It did.
    """
    probe = subprocess.run([sys.executable, "-c", _PROBE, database], capture_output=True, text=True, check=False)
    if probe.returncode:
        said = probe.stderr.strip().splitlines()
        raise DataError(
            _damaged(database, said[-1] if said else f"reading it ends a process by signal {-probe.returncode}")
        )


def _damaged(database: Path, reason: object) -> str:
    return f"{database} is damaged ({reason}); copy it again, completely, or name another folder"


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
