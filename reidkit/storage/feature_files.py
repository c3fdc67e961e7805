"""Feature files: embeddings of anything in .npy, .npz, .parquet and .safetensors, and the labels found for them.

Nothing is unpickled. Writing makes no second copy of the features.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.storage.atomic import atomic_write, check_writable
from reidkit.storage.safe_open import open_file

__all__ = [
    "OUTPUT_KINDS",
    "RUN_FEATURES",
    "FeatureFile",
    "check_output",
    "read_arrays",
    "read_features",
    "read_integers",
    "read_parquet",
    "write_features",
    "write_labels",
]

OUTPUT_KINDS = (".npz", ".parquet", ".safetensors")
"""Suffixes of the files that `write_features` writes."""

RUN_FEATURES = "features.npz"
"""Name in a run folder of the features of its last clustering."""

_EXTRAS = ("identities", "cameras", "paths")
_ROWS = 8192

Arrays = dict[str, NDArray[Any]]
Content = TypeVar("Content")
Integers = NDArray[np.int64]


class FeatureFile(NamedTuple):
    """Contents of a feature file of N images."""

    features: NDArray[np.floating[Any]]
    """(N, D) float32 or float64, all finite."""
    identities: NDArray[np.int64] | None
    """(N,) identities, -1 is unknown."""
    cameras: NDArray[np.int64] | None
    """(N,) cameras, -1 is unknown."""
    paths: list[str] | None
    """N paths or names of the images."""


def read_features(path: Path) -> FeatureFile:
    """Read features (N, D), and identities, cameras and paths where the file has them.

    * `.npy`: one array (N, D).
    * `.npz`, `.safetensors`: an array `features` (N, D); optional arrays `identities`, `cameras`, `paths` (N,).
    * `.parquet`: a column `features` of lists of equal length, or else every other column is one feature; optional
      columns `identities`, `cameras`, `paths`.
    * A run folder: the features of its training images in the last epoch.

    Identities and cameras are integers, negative or null is unknown; or text, empty or null is unknown, which is
    numbered in alphabetical order. Integers and half precision become float32.

    Args:
        path: The file, whose suffix gives its kind, or a run folder.

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
    """Read arrays of a .npz file by their names; nothing is unpickled.

    Raises:
        DataError: One of `names` is missing.
        Exception: Of many kinds, if the file is missing or damaged.
    """
    # numpy leaves a file that it opened itself open if it is damaged.
    with open_file(path) as file, np.load(file, allow_pickle=False) as archive:
        if missing := [name for name in names if name not in archive.files]:
            raise _lacks(path, missing[0], archive.files)
        found = {name: archive[name] for name in (*names, *optional) if name in archive.files}
    for name, value in found.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{name} is no array")
    return found


def read_parquet(path: Path) -> Any:
    """Read a Parquet file as a `pyarrow.Table`.

    Raises:
        OSError, pyarrow.ArrowException: It is missing or damaged.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:  # `read_table` would take folders named a=b for columns
        return file.read()


def check_output(path: Path) -> None:
    """Make sure, before any work, that `write_features` can write a file.

    Raises:
        DataError: Its suffix is of no known kind, or it cannot be written.
    """
    if path.suffix.lower() not in OUTPUT_KINDS:
        raise DataError(
            f"{path} has the suffix {path.suffix!r}, which is none of {', '.join(OUTPUT_KINDS)}; choose one"
        )
    check_writable(path)


def write_features(
    path: Path, features: NDArray[np.float32], paths: list[str], identities: Integers, cameras: Integers
) -> None:
    """Write features (N, D), paths (N), identities (N,) and cameras (N,), of which -1 is unknown, in one step.

    Raises:
        DataError: The paths are too many for the header of a .safetensors file.
        RunError: The file cannot be written.
    """
    kind = path.suffix.lower()
    with atomic_write(path) as file:
        if kind == ".npz":
            np.savez(file, features=features, paths=np.array(paths), identities=identities, cameras=cameras)
        elif kind == ".parquet":
            _write_parquet(file, features, paths, identities, cameras)
        else:
            arrays: Arrays = {"features": features, "identities": identities, "cameras": cameras}
            _write_safetensors(Path(file.name), arrays, paths)


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
        raise DataError(f"{path} cannot be read as a {path.suffix} file ({reason}); write it again") from error


def _read_npy(path: Path) -> NDArray[Any]:
    # numpy leaves a file that it opened itself open if it is damaged.
    with path.open("rb") as file:
        return _plain(np.lib.format.read_array(file, allow_pickle=False))


def _read_npz(path: Path) -> Arrays:
    return {name: _plain(value) for name, value in read_arrays(path, ("features",), _EXTRAS).items()}


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Turn numpy's text into Python's, which fails here if damaged, and of which one long name lengthens no other."""
    return values.astype(np.object_) if values.dtype.kind == "U" else values


def _read_safetensors(path: Path) -> Arrays:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:  # numpy does not know bfloat16
        names = list(tensors.keys())
        if "features" not in names:
            raise _lacks(path, "features", names)
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

    # Identities, cameras and paths
    arrays: Arrays = {}
    for name in _EXTRAS:
        if name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            values = compute.fill_null(column, "" if text else -1).to_pylist()
            arrays[name] = np.array(values, dtype=np.object_ if text else None)

    # Features in a column of lists
    if "features" in table.column_names:
        column = table["features"].combine_chunks()
        lengths = set(compute.unique(compute.list_value_length(column)).to_pylist())
        if len(lengths) > 1 or None in lengths:
            raise DataError(f"{path} has features of different lengths or null; write lists of equal length")
        flat = column.flatten().to_numpy(zero_copy_only=False)
        arrays["features"] = flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 1)
        return arrays

    # Features in a column each; pandas stores an index that is not 0..N-1 as a column of such a name
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


def _write_parquet(
    file: IO[bytes], features: NDArray[np.float32], paths: list[str], identities: Integers, cameras: Integers
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    number, lists = pa.int64(), pa.list_(pa.float32())
    schema = pa.schema([("features", lists), ("paths", pa.string()), ("identities", number), ("cameras", number)])
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(features), _ROWS):
            part = slice(start, start + _ROWS)
            block = np.ascontiguousarray(features[part])
            offsets = np.arange(0, block.size + 1, block.shape[1], dtype=np.int32)
            # Names that are not valid Unicode keep a question mark for each such byte: Parquet's text is UTF-8.
            names = [name.encode("utf-8", "replace").decode() for name in paths[part]]
            columns = [pa.ListArray.from_arrays(offsets, block.ravel()), names, identities[part], cameras[part]]
            writer.write_table(pa.table(columns, schema=schema))


def _write_safetensors(path: Path, arrays: Arrays, paths: list[str]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(arrays, path, {"paths": json.dumps(paths)})
    except SafetensorError as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise DataError(f"{len(paths):,} paths do not fit a .safetensors file; choose .parquet or .npz") from error
    with path.open("rb") as written:  # the library renames a file onto the one that `atomic_write` flushes
        os.fsync(written.fileno())


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
    rows = np.flatnonzero(np.concatenate([~np.isfinite(block).all(axis=1) for block in blocks]))
    if len(rows):
        nan, infinite = np.isnan(features[rows]).sum(), np.isinf(features[rows]).sum()
        raise DataError(
            f"{path} holds {nan:,} NaN and {infinite:,} infinite values, in {len(rows):,} of {len(features):,} rows, "
            f"the first in row {rows[0]}; drop these rows, or find out why the model returns such features"
        )
    return features


def _check_integers(path: Path, name: str, values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Number text in alphabetical order, leave integers; unknown becomes -1."""
    if values.shape != (count,) or not (values.dtype.kind in "iu" or _is_text(values)):
        raise DataError(_misfit(path, name, values, count, "integers or text"))
    if values.dtype.kind in "iu":
        return np.maximum(values.astype(np.int64), -1)
    names = values.tolist()
    ranks = {text: rank for rank, text in enumerate(sorted({*names} - {""}))}
    return np.array([ranks.get(text, -1) for text in names], dtype=np.int64)


def _is_text(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "O" and all(type(value) is str for value in values.flat)


def _lacks(path: Path, name: str, found: Sequence[str]) -> DataError:
    return DataError(
        f"{path} has no array `{name}` (found: {', '.join(found[:12]) or 'nothing'}); store it under this name"
    )


def _misfit(path: Path, name: str, values: NDArray[Any], count: int, kind: str) -> str:
    return (
        f"{path} holds {name} of shape {values.shape} and type {values.dtype}; needed are {count:,} values, {kind}, "
        "one per image"
    )
