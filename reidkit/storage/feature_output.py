"""Feature files, as `reidkit.storage.feature_files` reads them, written without a second copy of the features."""

import json
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.storage.atomic import atomic_write
from reidkit.storage.feature_files import check_writable

__all__ = ["OUTPUT_KINDS", "check_output", "write_features"]

OUTPUT_KINDS = (".npz", ".parquet", ".safetensors")
_ROWS = 8192
_HEADER_LIMIT = 100_000_000  # bytes; readers of safetensors refuse more

Features = NDArray[np.float32]
Integers = NDArray[np.int64]


def check_output(path: Path) -> None:
    """Make sure, before any work, that a feature file can be written.

    Raises:
        DataError: Its suffix is of no known kind, or it cannot be written.
    """
    if path.suffix.lower() not in OUTPUT_KINDS:
        raise DataError(
            f"{path} has the suffix {path.suffix!r}, which is none of {', '.join(OUTPUT_KINDS)}; choose one"
        )
    check_writable(path)


def write_features(path: Path, features: Features, paths: list[str], identities: Integers, cameras: Integers) -> None:
    """Write `features` (N, D), `paths`, `identities` and `cameras` (N,), of which -1 is unknown, in one step.

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
            _write_safetensors(file, features, paths, identities, cameras)


def _write_parquet(
    file: IO[bytes], features: Features, paths: list[str], identities: Integers, cameras: Integers
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


def _write_safetensors(
    file: IO[bytes], features: Features, paths: list[str], identities: Integers, cameras: Integers
) -> None:
    """The format is 8 bytes of length, a JSON header, the arrays; the library's writer would copy them first."""
    header: dict[str, object] = {"__metadata__": {"paths": json.dumps(paths)}}
    arrays: dict[str, NDArray[Any]] = {"features": features, "identities": identities, "cameras": cameras}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        kind = "F32" if array.dtype == np.float32 else "I64"
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8 bytes
    if len(text) > _HEADER_LIMIT:
        raise DataError(f"the paths of {len(paths):,} images do not fit a .safetensors file; choose .parquet or .npz")
    file.write(struct.pack("<Q", len(text)) + text)
    for array in arrays.values():
        for start in range(0, len(array), _ROWS):
            file.write(array[start : start + _ROWS].tobytes())
