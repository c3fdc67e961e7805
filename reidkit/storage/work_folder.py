"""Rows of numbers in blocks on the disk: work that goes on after a kill."""

import json
import operator
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.storage.atomic import atomic_write, remove_leftovers, unwritable
from reidkit.storage.safe_open import open_file, read_file

__all__ = ["WorkFolder"]

_GATHERED = "gathered.npy"


class WorkFolder:
    """Blocks of rows, what belongs to each, and the key of what all of them were made from.

    Block 3 is two files: `000003.npy` with the rows, an array (R, ...) float32, and `000003.json` with what belongs to
    them. The second is written last and makes the block valid. A block that replaces others names them there. So after
    a kill at any time each row counts once, and only the block that was being written is lost.

    Args:
        path: The folder.
        shape: Shape of one row: (D,) for features, () for numbers.
        key_file: Name of the file with the key.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], key_file: str = "key.json") -> None:
        self.path, self._shape, self._key_file = path, shape, path / key_file
        self.blocks: dict[int, dict[str, Any]] = {}
        """Number -> what belongs to the rows, for each valid block that `load` has found or `add` has written."""

    def read_key(self) -> dict[str, Any] | None:
        """Read what the rows were made from; None if no work was begun here.

        Raises:
            DataError: The file is damaged.
        """
        return self._read_json(self._key_file) if self._key_file.exists() else None

    def begin(self, key: Mapping[str, Any]) -> None:
        """Remove all blocks, and note what the new ones are made from.

        Raises:
            RunError: The folder cannot be written.
        """
        try:
            self.path.mkdir(exist_ok=True)
            # The key goes first: a kill leaves no key with some of the blocks.
            for file in (self._key_file, *self.path.glob("[0-9]*.json"), *self.path.glob("*.npy")):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.blocks = {}
        self._write_json(self._key_file, key)

    def load(self) -> None:
        """Find the valid blocks; remove those that others have replaced, and what a kill left half-written.

        Raises:
            DataError: A block is damaged.
        """
        remove_leftovers(self.path)
        self.blocks = {}
        replaced: set[int] = set()
        for file in sorted(self.path.glob("[0-9]*.json")):
            content = self._read_json(file)
            try:
                replaced.update(map(operator.index, content.pop("replaces")))
                self.blocks[int(file.stem)] = content
            except (KeyError, TypeError, ValueError) as error:
                raise self.damaged(file, error) from error
        for number in replaced:
            self._remove(number)

    def add(
        self,
        rows: NDArray[np.float32],
        content: Mapping[str, Any],
        *,
        number: int | None = None,
        replaces: Iterable[int] = (),
    ) -> int:
        """Write a block, and remove those that it replaces.

        Args:
            rows: (R, ...).
            content: What belongs to them, of the types of JSON.
            number: Number of the block; None is the next one.
            replaces: Numbers of the blocks that it replaces.

        Returns:
            The block's number.

        Raises:
            RunError: It cannot be written.
        """
        number = max(self.blocks, default=0) + 1 if number is None else number
        with atomic_write(self._file(number, "npy")) as file:
            np.save(file, rows)
        self._write_json(self._file(number, "json"), {**content, "replaces": list(replaces)})
        self.blocks[number] = dict(content)
        for old in replaces:
            self._remove(old)
        return number

    def rows(self, number: int, count: int) -> NDArray[np.float32]:
        """Read the rows (count, ...) of a block.

        Raises:
            DataError: They are damaged, or not as many.
        """
        file = self._file(number, "npy")
        try:
            with open_file(file) as opened:
                rows: NDArray[np.float32] = np.lib.format.read_array(opened, allow_pickle=False)
        except Exception as error:  # damaged files raise many kinds
            raise self.damaged(file, error) from error
        if rows.shape != (count, *self._shape) or rows.dtype != np.float32:
            raise self.damaged(file, f"it holds {rows.dtype} of shape {rows.shape}, not {(count, *self._shape)}")
        return rows

    def gather(self, counts: Mapping[int, int]) -> NDArray[np.float32]:
        """Join the rows of blocks to an array (N, ...) that is mapped from a file here: memory does not grow with it.

        Args:
            counts: Number -> rows of each block, in their order.

        Raises:
            DataError: A block is damaged.
            RunError: The disk is full.
        """
        shape = (sum(counts.values()), *self._shape)
        with atomic_write(self.path / _GATHERED) as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for number, count in counts.items():
                file.write(self.rows(number, count).tobytes())
        return np.lib.format.open_memmap(self.path / _GATHERED, mode="r")

    def remove(self) -> None:
        """Remove the folder when the work is done; the key goes first: after a kill amid it the work begins again."""
        self._key_file.unlink(missing_ok=True)
        shutil.rmtree(self.path)

    def damaged(self, file: Path, reason: object) -> DataError:
        """Error about a file that does not hold what was written."""
        return DataError(f"{file} is damaged ({reason}); remove the folder {self.path}, and type the same again")

    def _file(self, number: int, suffix: str) -> Path:
        return self.path / f"{number:06d}.{suffix}"

    def _remove(self, number: int) -> None:
        # The .json goes first: without it the rows do not count.
        for suffix in ("json", "npy"):
            self._file(number, suffix).unlink(missing_ok=True)
        self.blocks.pop(number, None)

    def _read_json(self, file: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(read_file(file)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise self.damaged(file, error) from error

    def _write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        with atomic_write(file) as opened:
            opened.write(json.dumps(content).encode())
