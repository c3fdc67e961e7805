"""Parquet files of others, which may promise more than they hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reidkit.errors import DataError

__all__ = ["read_parquet"]

_VALUES, _VALUES_PER_BYTE = 2**24, 8  # a Parquet file that promises more is taken for a bomb
_TEXT, _TEXT_PER_BYTE = 2**28, 64  # bytes, likewise


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """A Parquet file as a table of pyarrow's; text columns are dictionaries where they are so in the file.

    Repetition costs next to nothing in a file: what it would unfold to is held against its size before it is read.

    Args:
        path: The file.
        columns: Which ones; None is all.

    Raises:
        DataError: The file promises more than fits its size.
        OSError, pyarrow.ArrowException: It is missing or damaged.
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        # Not the columns' own metadata, on some of which pyarrow ends the process.
        promised = metadata.num_rows * metadata.num_columns
        if promised > max(_VALUES, _VALUES_PER_BYTE * size):
            raise DataError(
                f"{path} promises {promised:,} values in {metadata.num_rows:,} rows, and has {size:,} bytes; write it "
                "anew, without compression if that is meant"
            )
        kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
        text = [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]
    with parquet.ParquetFile(path, read_dictionary=text) as file:
        table = file.read(columns=None if columns is None else list(columns))
    for name, column in zip(table.column_names, table.columns, strict=True):
        chunks = [chunk for chunk in column.chunks if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary)]
        lengths = (compute.take(compute.binary_length(chunk.dictionary), chunk.indices) for chunk in chunks)
        if sum(compute.sum(each).as_py() or 0 for each in lengths) > max(_TEXT, _TEXT_PER_BYTE * size):
            raise DataError(f"{path} repeats long texts in the column {name!r} beyond all proportion; write it anew")
    return table
