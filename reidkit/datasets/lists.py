"""List files: lines of text with an image and its identity."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from reidkit.errors import DataError

__all__ = ["read_list", "require_files"]


def read_list(listing: Path, pattern: re.Pattern[str], example: str, needed: str) -> list[tuple[str, ...]]:
    """Read the groups of a pattern in every line of a file; blank lines are passed over.

    Args:
        listing: Text file, UTF-8.
        pattern: Must match a whole line, without the spaces around it.
        example: A line as it should be, for the error.
        needed: Files of the data set, for the error.

    Raises:
        DataError: The file cannot be read, a line does not match, or there is none.
    """
    if listing.exists() and not listing.is_file():
        raise DataError(f"{listing} is no file; {needed}")
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{listing} cannot be read ({error.strerror}); {needed}") from None
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not UTF-8 text; {needed}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = pattern.fullmatch(line.strip())
        if match is None:
            raise DataError(f"{listing}, line {number}: {line!r} is not of the form {example!r}")
        rows.append(match.groups())
    if not rows:
        raise DataError(f"{listing} is empty; {needed}")
    return rows


def require_files(source: Path, paths: Sequence[Path], remedy: str) -> None:
    """Check that the images of a list or table exist.

    Raises:
        DataError: Files are absent: how many, the first of them, and the remedy.
    """
    absent = [path for path in paths if not os.path.isfile(path)]  # pathlib's would raise where a name is too long
    if absent:
        raise DataError(
            f"{len(absent):,} of {len(paths):,} images that {source} names do not exist, for instance {absent[0]}; "
            f"{remedy}"
        )
