"""The features of a folder of images, kept on the disk and grown by what is new."""

import json
import operator
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import load_plain
from reidkit.errors import CheckpointError, DataError
from reidkit.inference.embedder import Embedder
from reidkit.inference.pixels import printable
from reidkit.loop import Progress
from reidkit.storage import atomic_write, open_file, read_file, sole_writer

__all__ = ["GalleryIndex", "GalleryUpdate", "is_index"]

_HEADER = "index.json"
_FORMAT = 1
_BLOCK = 1024  # images in a block
_SECONDS = 5.0  # ... or work in it, whatever comes first: what a kill costs
_SMALL_BLOCKS = 16  # more than these are merged


class _Image(NamedTuple):
    """An image as it was when it was embedded; another size or time means another image."""

    name: str
    """Relative to the gallery folder."""
    size: int
    modified: int
    """Nanoseconds."""


class _Block(NamedTuple):
    number: int
    images: list[_Image]
    """Row by row."""
    unreadable: list[_Image]
    """Not tried again until they change."""


class GalleryUpdate(NamedTuple):
    """What `GalleryIndex.update` did."""

    kept: int
    """Images whose features were there already."""
    added: int
    """New or changed images that were embedded."""
    dropped: int
    """Images that are gone, or that changed."""
    problems: tuple[str, ...]
    """One line for every image that could not be read: its path and, when it was tried now, the reason."""


def _image(row: Any) -> _Image:
    """An image as a list of a block has it.

    Raises:
        TypeError, ValueError: It is none, or its name leads out of the gallery folder.
    """
    image = _Image(*row)
    if not isinstance(image.name, str) or os.path.isabs(image.name) or ".." in image.name.split("/"):
        raise ValueError(f"{image.name!r} is no name of an image in the gallery folder")
    return image


def is_index(folder: Path) -> bool:
    """Whether a folder is an index of ours."""
    try:
        return "reidkit_index" in json.loads(read_file(folder / _HEADER))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


class GalleryIndex:
    """Features of the images in and below a folder.

    Every block of about 1,024 images is two files, `000001.npy` with the features (N, D) and `000001.json` with name,
    size and time of each image; the second is written last and makes the block valid. A block that takes the place of
    others names them: whatever is killed at any time, each image counts once. Nothing but the block at hand is lost.

    Args:
        folder: Where the index lies; a new one is made there if `root` is given.
        embedder: The model of the features.
        root: The gallery folder; None takes the one of an existing index.

    Raises:
        CheckpointError: The index is of another checkpoint.
        DataError: The folder is no index, the index is damaged or of another gallery, or `root` is no folder.
        RunError: The folder cannot be written.
    """

    def __init__(self, folder: Path, embedder: Embedder, root: Path | None = None) -> None:
        self.folder, self._embedder = folder, embedder
        root = None if root is None else Path(os.path.abspath(root))
        if root is not None and not root.is_dir():
            raise DataError(f"the gallery {printable(root)} is no folder; name a folder of images, or a saved index")
        if not is_index(folder):
            self._create(root)
        header = self._read(folder / _HEADER)
        if header.get("reidkit_index") != _FORMAT:
            raise DataError(f"{folder} is an index of another version of reidkit; make a new one in another folder")
        if not isinstance(header.get("root"), str):
            raise self._damaged(folder / _HEADER, "it names no gallery folder")
        self.root = Path(header["root"])
        """The gallery folder, absolute."""
        if header.get("checkpoint") != embedder.fingerprint:
            raise CheckpointError(
                f"the index {folder} was made with {header.get('checkpoint_path')} as it was then, whose features "
                f"cannot be compared with those of {embedder.checkpoint}; search with that one, or name a new folder "
                "with --index"
            )
        if root is not None and root != self.root:
            raise DataError(
                f"the index {folder} is one of {printable(self.root)}, not of {printable(root)}; name another "
                "folder with --index"
            )
        self._load()

    @property
    def calibration_file(self) -> Path:
        """Where the calibration of this checkpoint's cosines lies, if there is one."""
        return self.folder / "calibration.json"

    def __len__(self) -> int:
        return sum(len(block.images) for block in self._blocks.values())

    def paths(self) -> list[Path]:
        """Absolute paths of the images, in the order of `features`."""
        return [self.root / image.name for block in self._blocks.values() for image in block.images]

    def features(self) -> NDArray[np.float32]:
        """(N, D), L2-normalised.

        Raises:
            DataError: A block is damaged.
        """
        parts = [np.empty((0, self._embedder.feature_dim), np.float32), *map(self._features, self._blocks.values())]
        return np.concatenate(parts)

    def update(self, *, batch_size: int | None = None, progress: Progress | None = None) -> GalleryUpdate:
        """Bring the index up to date with the gallery folder: only new and changed images are embedded.

        Raises:
            DataError: The folder is gone or holds no images.
            RunError: The index cannot be written, or another process writes it.
        """
        progress = progress or Progress()
        with sole_writer(self.folder):
            self._load()
            current = self._list_images()
            before = len(self)
            self._drop_stale(current)
            kept = len(self)
            blocks = self._blocks.values()
            failed = [image.name for block in blocks for image in block.unreadable]
            known = {image.name for block in blocks for image in block.images} | set(failed)
            problems = [f"{printable(self.root / name)}: unreadable as before" for name in failed]
            fresh = [image for name, image in current.items() if name not in known]
            if fresh:
                progress.begin("index", len(fresh))
                problems += self._embed(fresh, batch_size, progress)
            self._merge_small()
        return GalleryUpdate(kept, len(self) - kept, before - kept, tuple(problems))

    def _create(self, root: Path | None) -> None:
        if root is None:
            raise DataError(
                f"{self.folder} is no index of a gallery; name a folder that --index made, or one of images"
            )
        if self.folder.is_dir() and any(path.name[0] != "." for path in self.folder.iterdir()):
            raise DataError(f"{self.folder} holds other files and no index; name a new folder with --index")
        header = {
            "reidkit_index": _FORMAT,
            "checkpoint": self._embedder.fingerprint,
            "checkpoint_path": str(self._embedder.checkpoint.absolute()),
            "root": str(root),
        }
        with sole_writer(self.folder):
            self._write_json(_HEADER, header)

    def _load(self) -> None:
        """Read the list of every valid block; remove those whose place another one took."""
        self._blocks: dict[int, _Block] = {}
        replaced: set[int] = set()
        for file in sorted(self.folder.glob("[0-9]*.json")):
            content = self._read(file)
            try:
                images, unreadable = (list(map(_image, content[name])) for name in ("images", "unreadable"))
                replaced.update(map(operator.index, content["replaces"]))
                number = int(file.stem)
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(file, error) from error
            self._blocks[number] = _Block(number, images, unreadable)
        for number in replaced:
            self._remove(number)

    def _list_images(self) -> dict[str, _Image]:
        """Name -> image for all in and below the gallery folder."""
        if not self.root.is_dir():
            raise DataError(
                f"the gallery folder {printable(self.root)} is gone; put it back, or search the index as it is"
            )
        images = {}
        for path in load_plain(self.root, self.root.name).train.paths:
            name = os.path.relpath(path, self.root)
            try:
                status = os.stat(path)
            except OSError:  # a link that leads nowhere or to itself; the embedder says so
                images[name] = _Image(name, 0, 0)
            else:
                images[name] = _Image(name, status.st_size, status.st_mtime_ns)
        return images

    def _drop_stale(self, current: dict[str, _Image]) -> None:
        """Rewrite blocks with images that are gone or changed."""
        for block in list(self._blocks.values()):
            alive = np.array([current.get(image.name) == image for image in block.images], dtype=np.bool_)
            unreadable = [image for image in block.unreadable if current.get(image.name) == image]
            if alive.all() and len(unreadable) == len(block.unreadable):
                continue
            images = [image for image, lives in zip(block.images, alive, strict=True) if lives]
            self._write(images, unreadable, self._features(block)[alive], replaces=[block.number])

    def _embed(self, fresh: list[_Image], batch_size: int | None, progress: Progress) -> list[str]:
        """Append blocks of new images; return what could not be read."""
        problems: list[str] = []
        features: list[NDArray[np.float32]] = []
        start = done = 0
        readable: list[bool] = []
        begun = time.monotonic()
        for batch in self._embedder.stream([self.root / image.name for image in fresh], batch_size=batch_size):
            failed = [fresh[done + row].name for row in np.flatnonzero(~batch.readable)]
            lines = zip(failed, batch.problems, strict=True)
            problems += [f"{printable(self.root / name)}: {reason}" for name, reason in lines]
            features.append(batch.features)
            readable += batch.readable.tolist()
            done += len(batch.readable)
            if done - start >= _BLOCK or time.monotonic() - begun >= _SECONDS or done == len(fresh):
                outcome = list(zip(fresh[start:done], readable, strict=True))
                good, bad = ([image for image, is_read in outcome if is_read == wanted] for wanted in (True, False))
                self._write(good, bad, np.concatenate(features))
                features, readable, start, begun = [], [], done, time.monotonic()
            progress.advance(done)
        return problems

    def _merge_small(self) -> None:
        small = [block for block in self._blocks.values() if len(block.images) < _BLOCK // 2]
        if len(small) > _SMALL_BLOCKS:
            self._write(
                [image for block in small for image in block.images],
                [image for block in small for image in block.unreadable],
                np.concatenate([self._features(block) for block in small]),
                replaces=[block.number for block in small],
            )

    def _write(
        self,
        images: list[_Image],
        unreadable: list[_Image],
        features: NDArray[np.float32],
        replaces: list[int] | None = None,
    ) -> None:
        """Add a block; afterwards those that it replaces are gone."""
        number = max(self._blocks, default=0) + 1
        with atomic_write(self.folder / f"{number:06d}.npy") as file:
            np.save(file, features)
        self._write_json(f"{number:06d}.json", {"images": images, "unreadable": unreadable, "replaces": replaces or []})
        self._blocks[number] = _Block(number, images, unreadable)
        for old in replaces or []:
            self._remove(old)

    def _remove(self, number: int) -> None:
        # The list goes first: without it the features do not count.
        for suffix in ("json", "npy"):
            (self.folder / f"{number:06d}.{suffix}").unlink(missing_ok=True)
        self._blocks.pop(number, None)

    def _features(self, block: _Block) -> NDArray[np.float32]:
        file = self.folder / f"{block.number:06d}.npy"
        try:
            with open_file(file) as opened:
                features: NDArray[np.float32] = np.lib.format.read_array(opened, allow_pickle=False)
        except Exception as error:  # damaged files raise many kinds
            raise self._damaged(file, error) from error
        if features.shape != (len(block.images), self._embedder.feature_dim) or features.dtype != np.float32:
            raise self._damaged(file, f"it holds features of shape {features.shape} and type {features.dtype}")
        return features

    def _write_json(self, name: str, content: object) -> None:
        with atomic_write(self.folder / name) as file:
            file.write(json.dumps(content).encode())

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(read_file(file)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise self._damaged(file, error) from error

    def _damaged(self, file: Path, reason: object) -> DataError:
        return DataError(f"{file} is damaged ({reason}); remove the folder {self.folder} and search again")
