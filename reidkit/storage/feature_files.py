"""Feature files: embeddings of anything from .npy, .npz, .parquet and .safetensors, and the labels found for them.

Nothing is ever unpickled: a file from a stranger can be wrong, but it cannot run code.
"""

import csv
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.storage.atomic import atomic_write
from reidkit.storage.parquet import read_parquet
from reidkit.storage.safe_open import open_file

__all__ = [
    "RUN_FEATURES",
    "FeatureFile",
    "check_writable",
    "read_arrays",
    "read_features",
    "read_integers",
    "write_labels",
]

RUN_FEATURES = "features.npz"
"""What a run folder calls the features of its last clustering."""

_EXTRAS = ("identities", "cameras", "paths")
_ROWS = 8192
_INFLATED, _RATIO = 2**28, 200  # bytes of an array, and times its compressed size, beyond which it is taken for a bomb

Arrays = dict[str, NDArray[Any]]
Content = TypeVar("Content")


class FeatureFile(NamedTuple):
    """What a feature file holds."""

    features: NDArray[np.floating[Any]]
    """(N, D) float32 or float64, all finite."""
    identities: NDArray[np.int64] | None
    """(N,) identities, -1 is unknown."""
    cameras: NDArray[np.int64] | None
    """(N,) cameras, -1 is unknown."""
    paths: list[str] | None
    """N names of the images."""


def read_features(path: Path) -> FeatureFile:
    """Read features and what comes with them.

    * `.npy`: one array (N, D).
    * `.npz`, `.safetensors`: an array `features` (N, D); optional arrays `identities`, `cameras`, `paths` (N,).
    * `.parquet`: a column `features` of lists of equal length, or else every other column is one feature; optional
      columns `identities`, `cameras`, `paths`.
    * A run folder: the features of its training images in the last epoch.

    Identities and cameras are integers, negative or null is unknown; or text, empty or null is unknown, which is
    numbered in alphabetical order. Integers and half precision become float32.

    Args:
        path: The file; its suffix says what it is.

    Raises:
        DataError: The file is missing, damaged, of another kind, or lacks features; features of a wrong shape, or with
            NaN or infinity; extras that do not fit them.
    """
    readers: dict[str, Callable[[Path], Arrays]] = {
        ".npy": lambda file: {"features": _read_npy(file)},
        ".npz": _read_npz,
        ".parquet": _read_parquet,
        ".safetensors": _read_safetensors,
    }
    if path.is_dir() and not (path / RUN_FEATURES).exists():
        raise DataError(
            f"{path} has no {RUN_FEATURES}: a run folder gets one in its last epoch, if that epoch clusters; finish "
            "the run, or name a file of features"
        )
    path = path / RUN_FEATURES if path.is_dir() else path
    arrays = _read(path, readers)
    features = _check_features(path, arrays["features"])
    paths = arrays.get("paths")
    if paths is not None and (paths.shape != (len(features),) or not _is_text(paths)):
        raise DataError(_misfit(path, "paths", paths, len(features), "text"))
    identities, cameras = (
        _check_integers(path, name, arrays[name], len(features)) if name in arrays else None
        for name in ("identities", "cameras")
    )
    return FeatureFile(features, identities, cameras, None if paths is None else paths.tolist())


def read_integers(path: Path, name: str, count: int) -> NDArray[np.int64]:
    """Read identities or cameras from a file of their own.

    Args:
        path: `.npy`, an array (N,); or `.txt` or `.csv`, one integer or name per line and no header.
        name: What they are, for messages.
        count: N.

    Returns:
        (N,) numbers, -1 is unknown, as `read_features` describes.

    Raises:
        DataError: The file is missing, damaged, of another kind, or does not hold N values.
    """
    values = _read(path, {".npy": _read_npy, ".txt": _read_lines, ".csv": _read_lines})
    return _check_integers(path, name, values, count)


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Arrays of a .npz file by their names; nothing is unpickled.

    Raises:
        DataError: One of `names` is missing, or inflates out of all proportion.
        Exception: Of many kinds, if the file is missing or damaged.
    """
    # numpy leaves a file that it opened itself open if it is damaged.
    with open_file(path) as file, np.load(file, allow_pickle=False) as archive:
        if missing := [name for name in names if name not in archive.files]:
            raise DataError(
                f"{path} has no array `{missing[0]}` (found: {', '.join(archive.files[:12]) or 'nothing'}); store it "
                "under this name"
            )
        for member in archive.zip.infolist():
            if member.file_size > max(_INFLATED, _RATIO * member.compress_size):
                raise DataError(
                    f"{path} holds {member.filename!r}, whose {member.compress_size:,} bytes would inflate to "
                    f"{member.file_size:,}, over {_RATIO} times as many; if that is meant, store it uncompressed"
                )
        found = {name: archive[name] for name in (*names, *optional) if name in archive.files}
    for name, value in found.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{name} is no array")
        _check_text(value)
    return found


def check_writable(path: Path) -> None:
    """Make sure, before any work, that a file can be written; an existing file keeps its content.

    Raises:
        DataError: The path is a folder, or its folder does not exist or cannot be written.
    """
    try:
        if path.exists():
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); choose another file") from error


def write_labels(path: Path, labels: NDArray[np.integer[Any]], paths: list[str] | None) -> None:
    """Write labels (N,), -1 is noise, as CSV with the header `path,label`, or `index,label` where no paths are known.

    Raises:
        RunError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index" if paths is None else "path", "label"])
    writer.writerows(zip(paths or range(len(labels)), labels.tolist(), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _read(path: Path, readers: dict[str, Callable[[Path], Content]]) -> Content:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {found}; name a file of the kinds {', '.join(readers)}")
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} has the suffix {path.suffix!r}, which is none of {', '.join(readers)}; convert it")
    try:
        return readers[path.suffix.lower()](path)
    except DataError:
        raise
    except Exception as error:  # damaged files raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as a {path.suffix} file ({reason}); write it anew") from error


def _read_npy(path: Path) -> NDArray[Any]:
    # numpy leaves a file that it opened itself open if it is damaged.
    with path.open("rb") as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    _check_text(values)
    return values


def _read_npz(path: Path) -> Arrays:
    return read_arrays(path, ("features",), _EXTRAS)


def _read_safetensors(path: Path) -> Arrays:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:  # numpy does not know bfloat16
        names = list(tensors.keys())
        if "features" not in names:
            raise DataError(
                f"{path} has no array `features` (found: {', '.join(names[:12]) or 'nothing'}); store the (N, D) "
                "features under this name"
            )
        wanted = {name: tensors.get_tensor(name) for name in ("features", *_EXTRAS) if name in names}
    return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in wanted.items()}


def _read_lines(path: Path) -> NDArray[Any]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    try:
        return np.array([int(line) for line in lines], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(lines, dtype=np.object_)


def _read_parquet(path: Path) -> Arrays:
    import pyarrow as pa
    from pyarrow import compute

    table = read_parquet(path)
    arrays: Arrays = {}
    for name in _EXTRAS:
        if name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            values = compute.fill_null(column, "" if text else -1).to_pylist()
            arrays[name] = np.array(values, dtype=np.object_ if text else None)
    if "features" in table.column_names:
        column = table["features"].combine_chunks()
        lengths = set(compute.unique(compute.list_value_length(column)).to_pylist())
        if len(lengths) > 1 or None in lengths:
            raise DataError(f"{path} has features of different lengths or null; write lists of equal length")
        flat = column.flatten().to_numpy(zero_copy_only=False)
        arrays["features"] = flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 1)
        return arrays
    # pandas stores an index that is not 0..N-1 as a column of such a name.
    names = [name for name in table.column_names if name not in _EXTRAS and not name.startswith("__index_level_")]
    text = [name for name in names if not pa.types.is_floating(table.schema.field(name).type)]
    if text or not names:
        raise DataError(
            f"{path} has neither a column `features` of lists nor numbers of floating point in all of its columns "
            f"(found: {', '.join(table.schema.names[:12])}); store the features in a column `features`, or leave other "
            "columns out"
        )
    arrays["features"] = np.column_stack([table[name].to_numpy() for name in names])
    return arrays


def _check_features(path: Path, features: NDArray[Any]) -> NDArray[np.floating[Any]]:
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds features of shape {features.shape} and type {features.dtype}; needed are real numbers of "
            "shape (N, D), one row per image"
        )
    if features.dtype not in (np.float32, np.float64):  # half precision, integers, the other byte order
        double = features.dtype.kind == "f" and features.dtype.itemsize >= 8
        features = features.astype(np.float64 if double else np.float32)
    blocks = [features[start : start + _ROWS] for start in range(0, len(features), _ROWS)]
    nan = sum(int(np.isnan(block).sum()) for block in blocks)
    infinite = sum(int(np.isinf(block).sum()) for block in blocks)
    if nan or infinite:
        rows = np.flatnonzero(np.concatenate([~np.isfinite(block).all(axis=1) for block in blocks]))
        raise DataError(
            f"{path} holds {nan:,} NaN and {infinite:,} infinite values, in {len(rows):,} of {len(features):,} rows, "
            f"the first in row {rows[0]}; drop these rows, or find out why the model returns such features"
        )
    return features


def _check_integers(path: Path, name: str, values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Integers as they are, text numbered in alphabetical order; unknown becomes -1."""
    if values.shape != (count,) or not (values.dtype.kind in "iu" or _is_text(values)):
        raise DataError(_misfit(path, name, values, count, "integers or text"))
    if values.dtype.kind in "iu":
        return np.maximum(values.astype(np.int64), -1)
    names = values.tolist()
    ranks = {text: rank for rank, text in enumerate(sorted({*names} - {""}))}
    return np.array([ranks.get(text, -1) for text in names], dtype=np.int64)


def _check_text(values: NDArray[Any]) -> None:
    """Make sure that numpy's text is text: it takes any 32 bits for a character, and Python fails on them later."""
    if values.dtype.kind == "U" and values.size and values.dtype.itemsize:
        codes = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False)).reshape(-1)
        if codes.view(np.uint32).max() > sys.maxunicode:
            raise ValueError("its text holds what are no characters")


def _is_text(values: NDArray[Any]) -> bool:
    """Whether an array holds text: numpy's own, or Python's, in which one long name does not lengthen all others."""
    return values.dtype.kind == "U" or (values.dtype.kind == "O" and all(type(value) is str for value in values.flat))


def _misfit(path: Path, name: str, values: NDArray[Any], count: int, kind: str) -> str:
    return (
        f"{path} holds {name} of shape {values.shape} and type {values.dtype}; needed are {count:,} values, {kind}, "
        "one per image"
    )
