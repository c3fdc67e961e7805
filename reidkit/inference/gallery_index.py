"""Features of a folder of images, kept on the disk; an update embeds only new and changed images."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import load_plain
from reidkit.errors import CheckpointError, DataError
from reidkit.inference.embedder import Embedder
from reidkit.inference.extraction import embed_blocks
from reidkit.inference.pixels import printable
from reidkit.loop import Progress
from reidkit.storage import WorkFolder, read_file, sole_writer

__all__ = ["GalleryIndex", "GalleryUpdate", "is_index"]

_HEADER = "index.json"
_FORMAT = 1
_SMALL = 512  # images; blocks of fewer are small
_SMALL_BLOCKS = 16  # more than these are merged


class _Image(NamedTuple):
    """Image as it was when it was embedded; another size or time means another image."""

    name: str
    """Relative to the gallery folder."""
    size: int
    modified: int
    """Nanoseconds."""


class GalleryUpdate(NamedTuple):
    """Outcome of `GalleryIndex.update`."""

    kept: int
    """Images whose features were there already."""
    added: int
    """New or changed images that were embedded."""
    dropped: int
    """Images that are gone, or that changed."""
    problems: tuple[str, ...]
    """One line for every image that could not be read: its path and, when it was tried now, the reason."""


def is_index(folder: Path) -> bool:
    """Whether a folder is the index of a gallery."""
    try:
        return "reidkit_index" in json.loads(read_file(folder / _HEADER))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


class GalleryIndex:
    """Features of the images in and below a folder.

    A work folder whose blocks hold about 1,024 features each, with name, size and time of their `images`, row by row,
    and of those that were `unreadable`, which are not tried again until they change: an update that is killed loses
    only the block at hand.

    Args:
        folder: Where the index is stored. If there is none, it is made for `root`.
        embedder: The model of the features.
        root: The gallery folder; None takes the one of an existing index.

    Raises:
        CheckpointError: The index is of another checkpoint, or its features have another precision.
        DataError: The folder is no index, the index is damaged or of another gallery, or `root` is no folder.
        RunError: The folder cannot be written.
    """

    def __init__(self, folder: Path, embedder: Embedder, root: Path | None = None) -> None:
        self.folder, self._embedder = folder, embedder
        self.calibration_file = folder / "calibration.json"
        """Calibration of this checkpoint's cosines; it need not exist."""
        self._work = WorkFolder(folder, (embedder.feature_dim,), _HEADER)
        root = None if root is None else Path(os.path.abspath(root))
        if root is not None and not root.is_dir():
            raise DataError(f"the gallery {printable(root)} is no folder; name a folder of images, or a saved index")
        if not is_index(folder):
            self._create(root)
        header = self._work.read_key() or {}
        if header.get("reidkit_index") != _FORMAT:
            raise DataError(f"{folder} is an index of another version of reidkit; make a new one in another folder")
        if not isinstance(header.get("root"), str):
            raise self._work.damaged(folder / _HEADER, "it names no gallery folder")
        self.root = Path(header["root"])
        """The gallery folder, absolute."""
        self._check_model(header)
        if root is not None and root != self.root:
            raise DataError(
                f"the index {folder} is one of {printable(self.root)}, not of {printable(root)}; name another "
                "folder with --index"
            )
        self._load()

    def __len__(self) -> int:
        return sum(len(block["images"]) for block in self._work.blocks.values())

    def paths(self) -> list[Path]:
        """Absolute paths of the N images, in the order of `features`."""
        return [self.root / image.name for block in self._work.blocks.values() for image in block["images"]]

    def features(self) -> NDArray[np.float32]:
        """Features (N, D), L2-normalised.

        Raises:
            DataError: A block is damaged.
        """
        return self._read(self._work.blocks)

    def update(self, *, batch_size: int | None = None, progress: Progress | None = None) -> GalleryUpdate:
        """Bring the index up to date with the gallery folder: only new and changed images are embedded.

        Raises:
            DataError: The folder is gone or holds no images.
            RunError: The index cannot be written, or another process writes it.
        """
        progress = progress or Progress()
        with sole_writer(self.folder):
            # Images that are gone or changed
            self._load()
            current = self._list_images()
            before = len(self)
            self._drop_stale(current)
            kept = len(self)
            blocks = self._work.blocks.values()
            failed = [image.name for block in blocks for image in block["unreadable"]]
            problems = [f"{printable(self.root / name)}: unreadable as before" for name in failed]

            # New images
            known = {image.name for block in blocks for image in block["images"]} | set(failed)
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
            "precision": self._embedder.precision,
            "root": str(root),
        }
        with sole_writer(self.folder):
            self._work.begin(header)

    def _check_model(self, header: dict[str, Any]) -> None:
        """Refuse features of another checkpoint or precision. Indexes of old versions do not say their precision."""
        if header.get("checkpoint") != self._embedder.fingerprint:
            raise CheckpointError(
                f"the index {self.folder} was made with {header.get('checkpoint_path')} as it was then, whose features "
                f"cannot be compared with those of {self._embedder.checkpoint}; search with that one, or name a new "
                "folder with --index"
            )
        if header.get("precision", self._embedder.precision) != self._embedder.precision:
            raise CheckpointError(
                f"the index {self.folder} holds features of precision {header['precision']}, not "
                f"{self._embedder.precision}; search with --precision {header['precision']}, or name a new folder with "
                "--index"
            )

    def _load(self) -> None:
        self._work.load()
        for number, block in self._work.blocks.items():
            try:
                images, unreadable = ([_Image(*row) for row in block[name]] for name in ("images", "unreadable"))
                if not all(isinstance(image.name, str) for image in (*images, *unreadable)):
                    raise TypeError("an image has no name")
                self._work.blocks[number] = {"images": images, "unreadable": unreadable}
            except (KeyError, TypeError) as error:
                raise self._work.damaged(self.folder / f"{number:06d}.json", error) from error

    def _list_images(self) -> dict[str, _Image]:
        """Name -> image for all in and below the gallery folder."""
        if not self.root.is_dir():
            raise DataError(
                f"the gallery folder {printable(self.root)} is gone; put it back, or search the index as it is"
            )
        images = {}
        for path in load_plain(self.root, self.root.name).train.paths:
            name = os.path.relpath(path, self.root)
            images[name] = _Image(name, 0, 0)
            with suppress(OSError):  # a link that leads nowhere or to itself; the embedder says so
                status = os.stat(path)
                images[name] = _Image(name, status.st_size, status.st_mtime_ns)
        return images

    def _drop_stale(self, current: dict[str, _Image]) -> None:
        """Rewrite blocks with images that are gone or changed."""
        for number, block in list(self._work.blocks.items()):
            fresh = {
                name: [image for image in images if current.get(image.name) == image] for name, images in block.items()
            }
            if fresh != block:
                alive = [current.get(image.name) == image for image in block["images"]]
                self._work.add(self._read([number])[alive], fresh, replaces=[number])

    def _embed(self, fresh: list[_Image], batch_size: int | None, progress: Progress) -> list[str]:
        """Append blocks of new images; return a line for each that could not be read."""
        problems: list[str] = []
        done = 0
        paths = [self.root / image.name for image in fresh]
        for embedded in embed_blocks(self._embedder, paths, progress, batch_size=batch_size):
            outcome = list(zip(fresh[done : done + len(embedded.readable)], embedded.readable, strict=True))
            images, unreadable = ([image for image, is_read in outcome if is_read == each] for each in (True, False))
            names = [printable(self.root / image.name) for image in unreadable]
            problems += [f"{name}: {reason}" for name, reason in zip(names, embedded.problems, strict=True)]
            self._work.add(embedded.features, {"images": images, "unreadable": unreadable})
            done += len(outcome)
        return problems

    def _merge_small(self) -> None:
        small = {number: block for number, block in self._work.blocks.items() if len(block["images"]) < _SMALL}
        if len(small) > _SMALL_BLOCKS:
            names = ("images", "unreadable")
            merged = {name: [image for block in small.values() for image in block[name]] for name in names}
            self._work.add(self._read(small), merged, replaces=list(small))

    def _read(self, numbers: Iterable[int]) -> NDArray[np.float32]:
        """Features (N, D) of some blocks."""
        parts = [self._work.rows(number, len(self._work.blocks[number]["images"])) for number in numbers]
        return np.concatenate([np.empty((0, self._embedder.feature_dim), np.float32), *parts])
