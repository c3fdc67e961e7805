"""Features of many images into one file, in work that a kill does not undo."""

import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.inference.embedder import Embedded, Embedder
from reidkit.inference.pixels import printable
from reidkit.loop import Progress
from reidkit.storage import WorkFolder, check_output, sole_writer, write_features

__all__ = ["Extraction", "embed_blocks", "extract_to_file"]

_BLOCK = 1024  # images of a block
_SECONDS = 2.0  # or work in it, whichever comes first: what a kill may cost


class Extraction(NamedTuple):
    """Outcome of `extract_to_file`."""

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

    Features go to a work folder beside the output, `.NAME.work`, in blocks of at most two seconds of work. A call with
    the same checkpoint, precision and unchanged images goes on where a killed one stopped; one with others starts from
    the beginning. The output appears whole, and the work folder disappears. Memory does not grow with the features.

    Args:
        embedder: From `load`.
        images: From `find_images`.
        output: The file, whose suffix gives its kind: .npz, .parquet or .safetensors. The last one has no arrays of
            text: paths are a JSON list in its metadata.
        batch_size: Images in a forward pass; None is the checkpoint's setting.
        strict: Stop at the first unreadable image, instead of leaving it out.
        progress: Gets the number of images done.

    Raises:
        DataError: The suffix is another; `strict` and an image is unreadable; no image is readable; the work folder is
            damaged.
        RunError: The disk is full, or another process writes the same output.
    """
    check_output(output)
    progress = progress or Progress()
    folder = output.with_name(f".{output.name}.work")
    with sole_writer(folder):
        # Blocks that an interrupted call has left
        work = WorkFolder(folder, (embedder.feature_dim,))
        key = {"fingerprint": _fingerprint(embedder, images)}
        if work.read_key() == key:
            work.load()
        else:
            work.begin(key)
        readable, problems = _outcome(work, len(images))
        resumed = len(readable)
        _stop_at(problems if strict else [])

        # The other images
        progress.begin("extract", len(images))
        rest = images.paths[resumed:]
        # Cameras that the model has not learned mean nothing to it.
        cameras = np.where(images.cameras < embedder.sie_cameras, images.cameras, -1)[resumed:]
        for block in embed_blocks(embedder, rest, progress, start=resumed, batch_size=batch_size, cameras=cameras):
            names = [printable(rest[len(readable) - resumed + row]) for row in np.flatnonzero(~block.readable)]
            lines = [f"{name}: {reason}" for name, reason in zip(names, block.problems, strict=True)]
            _stop_at(lines if strict else [])
            work.add(block.features, {"readable": block.readable.tolist(), "problems": lines})
            readable += block.readable.tolist()
            problems += lines

        # The output
        if not any(readable):
            raise DataError(f"none of {len(images):,} images is readable; the first: {problems[0] if problems else ''}")
        counts = {number: sum(content["readable"]) for number, content in work.blocks.items()}
        kept = images.subset(np.array(readable, dtype=np.bool_))
        write_features(output, work.gather(counts), [str(path) for path in kept.paths], kept.identities, kept.cameras)
        work.remove()
    return Extraction(sum(readable), resumed, tuple(problems))


def embed_blocks(
    embedder: Embedder,
    paths: Sequence[Path],
    progress: Progress,
    *,
    start: int = 0,
    batch_size: int | None = None,
    cameras: NDArray[np.int64] | None = None,
) -> Iterator[Embedded]:
    """Embed N images in blocks that are worth a file: 1,024 images or two seconds of work, whichever comes first.

    `progress` gets the number of images done, counted from `start`; `batch_size` and `cameras` are those of
    `Embedder.stream`.
    """
    batches: list[Embedded] = []
    done, begun = 0, time.monotonic()
    for batch in embedder.stream(paths, batch_size=batch_size, cameras=cameras):
        batches.append(batch)
        done += len(batch.readable)
        full = sum(len(each.readable) for each in batches) >= _BLOCK
        if full or time.monotonic() - begun >= _SECONDS or done == len(paths):
            features, readable, problems = zip(*batches, strict=True)
            yield Embedded(np.concatenate(features), np.concatenate(readable), list(itertools.chain(*problems)))
            batches, begun = [], time.monotonic()
        progress.advance(start + done)


def _outcome(work: WorkFolder, count: int) -> tuple[list[bool], list[str]]:
    """Which images could be read, as far as they are done, and a line for each other one."""
    readable: list[bool] = []
    problems: list[str] = []
    for content in work.blocks.values():
        readable += content.get("readable", [])
        problems += content.get("problems", [])
    kinds = {*map(type, readable)} <= {bool} and {*map(type, problems)} <= {str}
    kinds = kinds and all("readable" in content for content in work.blocks.values())
    if not kinds or readable.count(False) != len(problems) or len(readable) > count:
        raise work.damaged(work.path, "its blocks contradict each other")
    return readable, problems


def _stop_at(problems: list[str]) -> None:
    if problems:
        raise DataError(f"unreadable image {problems[0]}; repair or remove it, or go on without --strict")


def _fingerprint(embedder: Embedder, images: Split) -> str:
    """Equal where features already made can be kept: the model, its precision, the images and their order."""
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
