"""Files: atomic writes, locks, safe reading, feature files, work folders, Parquet. Loads neither torch nor numba."""

from reidkit.storage.atomic import atomic_write, check_writable, is_leftover, remove_leftovers, unwritable
from reidkit.storage.feature_files import (
    RUN_FEATURES,
    FeatureFile,
    check_output,
    read_arrays,
    read_features,
    read_integers,
    read_parquet,
    write_features,
    write_labels,
)
from reidkit.storage.locks import LOCK_NAME, hold, sole_writer
from reidkit.storage.safe_open import NotAFileError, open_file, read_file
from reidkit.storage.work_folder import WorkFolder

__all__ = [
    "LOCK_NAME",
    "RUN_FEATURES",
    "FeatureFile",
    "NotAFileError",
    "WorkFolder",
    "atomic_write",
    "check_output",
    "check_writable",
    "hold",
    "is_leftover",
    "open_file",
    "read_arrays",
    "read_features",
    "read_file",
    "read_integers",
    "read_parquet",
    "remove_leftovers",
    "sole_writer",
    "unwritable",
    "write_features",
    "write_labels",
]
