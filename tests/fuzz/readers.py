"""Every place that reads what others wrote: valid files for it, and the call that reads them."""

import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz import of_folders, of_tables, of_weights
from tests.fuzz.reader import Reader

__all__ = ["READERS", "seeds_of"]

READERS: dict[str, Reader] = {**of_weights.READERS, **of_tables.READERS, **of_folders.READERS}


@cache
def seeds_of(name: str) -> dict[str, bytes]:
    """The files of a valid input by their path."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        READERS[name].write(folder)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}
