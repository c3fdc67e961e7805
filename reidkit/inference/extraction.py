"""Features of many images into one file, in work that a kill does not undo."""

import hashlib
import json
import operator
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError, RunError
from reidkit.inference.embedder import Embedder
from reidkit.inference.pixels import printable
from reidkit.loop import Progress
from reidkit.storage import atomic_write, check_output, open_file, read_file, sole_writer, write_features

__all__ = ["Extraction", "extract_to_file"]

_FLUSH_SECONDS = 2.0  # work that a kill may cost
_FLOAT = 4


class Extraction(NamedTuple):
    """What `extract_to_file` did."""

    rows: int
    """Images whose features are in the file."""
    resumed: int
    """Images that an earlier, interrupted call had done already."""
    problems: tuple[str, ...]
    """One line for every image that was left out: its path and the reason."""


def extract_to_file(
    embedder: Embedder,
    images: Split,
    output: Path,
    *,
    batch_size: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Write the features of images, with their paths, identities and cameras, as `reidkit cluster` reads them.

    Features go to a work folder beside the output, `.NAME.work`, every two seconds and never less than the state there
    claims. A call with the same checkpoint, precision and unchanged images goes on where a killed one stopped; one
    with others starts anew. The output appears whole, and the work folder disappears. Memory does not grow with the
    features.

    Args:
        embedder: From `load`.
        images: From `find_images`.
        output: The file; its suffix, .npz, .parquet or .safetensors, says what it becomes. The last one has no arrays
            of text: paths are a JSON list in its metadata.
        batch_size: Images in a forward pass; None is the checkpoint's setting.
        strict: Stop at the first unreadable image, instead of leaving it out and saying so.
        progress: Told of the images done.

    Raises:
        DataError: The suffix is another; `strict` and an image is unreadable; no image is readable.
        RunError: The disk is full, or another process writes the same output.
    """
    check_output(output)
    progress = progress or Progress()
    folder = output.with_name(f".{output.name}.work")
    with sole_writer(folder):
        work = _Work(folder, _fingerprint(embedder, images), embedder.feature_dim, len(images))
        resumed = work.done
        progress.begin("extract", len(images))
        _fill(work, embedder, images, batch_size, strict, progress)
        problems = tuple(f"{printable(images.paths[index])}: {reason}" for index, reason in work.left_out)
        if not work.rows:
            raise DataError(f"none of {len(images):,} images is readable; the first: {problems[0] if problems else ''}")
        kept = np.ones(len(images), dtype=np.bool_)
        kept[[index for index, _ in work.left_out]] = False
        readable = images.subset(kept)
        paths = [str(path) for path in readable.paths]
        write_features(output, work.features(), paths, readable.identities, readable.cameras)
        shutil.rmtree(folder)
    return Extraction(work.rows, resumed, problems)


def _fill(
    work: "_Work", embedder: Embedder, images: Split, batch_size: int | None, strict: bool, progress: Progress
) -> None:
    """Embed what is not done yet."""
    _stop_at(work.left_out if strict else [], images)
    rest = images.paths[work.done :]
    # Cameras that the model has not learned mean nothing to it.
    cameras = np.where(images.cameras < embedder.sie_cameras, images.cameras, -1)[work.done :]
    done, flushed = work.done, time.monotonic()
    blocks: list[NDArray[np.float32]] = []
    problems: list[tuple[int, str]] = []
    for batch in embedder.stream(rest, batch_size=batch_size, cameras=cameras):
        unreadable = np.flatnonzero(~batch.readable) + done
        problems += zip(unreadable.tolist(), batch.problems, strict=True)
        _stop_at(problems if strict else [], images)
        blocks.append(batch.features)
        done += len(batch.readable)
        if time.monotonic() - flushed >= _FLUSH_SECONDS or done == len(images):
            work.append(blocks, done, problems)
            blocks, problems, flushed = [], [], time.monotonic()
        progress.advance(done)


def _stop_at(problems: list[tuple[int, str]], images: Split) -> None:
    if problems:
        index, reason = problems[0]
        raise DataError(
            f"unreadable image {printable(images.paths[index])}: {reason}; repair or remove it, or go on without "
            "--strict"
        )


def _fingerprint(embedder: Embedder, images: Split) -> str:
    """Equal where features already made can be kept: the model, its arithmetic, the images and their order."""
    digest = hashlib.sha256(f"{embedder.fingerprint} {embedder.precision}".encode())
    for path in images.paths:
        try:
            status = path.stat()
            version = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            version = "absent"
        digest.update(os.fsencode(path) + b"\0" + version.encode() + b"\0")
    digest.update(images.cameras.tobytes())
    return digest.hexdigest()


class _Work:
    """Features on the disk, and how far they go.

    Args:
        folder: Holds `features.f32`, rows of D float32, and `state.json`.
        fingerprint: Of the work; another one's state is dropped.
        dimension: D.
        count: N, the images of the work.
    """

    def __init__(self, folder: Path, fingerprint: str, dimension: int, count: int) -> None:
        self._data, self._state, self._fingerprint = folder / "features.f32", folder / "state.json", fingerprint
        self._dimension, self._count = dimension, count
        state = self._read_state()
        self.done = int(state.get("done", 0))
        """Images whose outcome is on the disk, counted from the first."""
        self.rows = int(state.get("rows", 0))
        """Those of them that were readable."""
        self.left_out: list[tuple[int, str]] = [(int(index), reason) for index, reason in state.get("left_out", [])]
        """Index and reason of the others."""

    def append(self, blocks: list[NDArray[np.float32]], done: int, left_out: list[tuple[int, str]]) -> None:
        """Put features (R, D) on the disk, then the state that counts them."""
        try:
            # Not what a link leads to: the folder may be a stranger's.
            descriptor = os.open(self._data, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            with open(descriptor, "r+b") as file:
                file.truncate(self.rows * self._row_bytes)
                file.seek(0, os.SEEK_END)
                for block in blocks:
                    file.write(block.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{self._data} could not be written ({error.strerror}); free some space, or remove it, then type "
                "the same command again: it goes on from here"
            ) from error
        self.done, self.rows = done, self.rows + sum(map(len, blocks))
        self.left_out += left_out
        state = {"fingerprint": self._fingerprint, "done": done, "rows": self.rows, "left_out": self.left_out}
        with atomic_write(self._state) as state_file:
            state_file.write(json.dumps(state).encode())

    def features(self) -> NDArray[np.float32]:
        """(rows, D), mapped from the disk."""
        return np.memmap(self._data, np.float32, "r", shape=(self.rows, self._dimension))

    @property
    def _row_bytes(self) -> int:
        return _FLOAT * self._dimension

    def _read_state(self) -> dict[str, Any]:
        """The state of the same work, or nothing where its data are not all there."""
        try:
            state: dict[str, Any] = json.loads(read_file(self._state))
            with open_file(self._data) as file:
                size = os.fstat(file.fileno()).st_size
            done, rows, left_out = operator.index(state["done"]), operator.index(state["rows"]), state["left_out"]
            numbers = [operator.index(number) for number, reason in left_out if isinstance(reason, str)]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return {}
        possible = 0 <= rows == done - len(left_out) and done <= self._count and size >= rows * self._row_bytes
        possible &= len({*numbers}) == len(left_out) and all(0 <= number < done for number in numbers)
        return state if possible and state.get("fingerprint") == self._fingerprint else {}
