"""Choosing images to pre-train on by the catastrophic forgetting score (CFS; TransReID-SSL, arXiv 2111.12084).

A large unlabelled set holds many images that are far from those a model will be used on. A model that was pre-trained
on the set and then fine-tuned on re-identification forgets what it does not need there: the feature of an image near
that domain hardly changes, that of a foreign one does.
"""

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch.nn import functional

from reidkit.datasets import DecodedImages, decode_images, normalise, unreadable_warnings
from reidkit.distributed import ProcessGroup
from reidkit.errors import CheckpointError, ConfigError, DataError, RunError
from reidkit.loop import Progress, TrainedModel, finish_together, place
from reidkit.pretrain.lists import read_scores, write_list, write_scores
from reidkit.storage import WorkFolder

__all__ = ["CHUNK", "Direction", "Selection", "rank_images", "select_images"]

logger = logging.getLogger(__name__)

Direction = Literal["high", "low"]
"""The scores that are best. By the paper, little forgotten, a high score, is close to the target."""

Scores = NDArray[np.float32]

CHUNK = 4096
"""Most images that are read, scored and stored at a time."""


class Selection(NamedTuple):
    """Ranked images, and how many of them are kept."""

    names: Sequence[str]
    """N names."""
    scores: Scores
    """(N,) scores, -1 to 1; NaN where the image is unreadable."""
    order: NDArray[np.int64]
    """(N,) numbers of the images, best first, unreadable ones last; ties by name."""
    kept: int
    """Images that are kept, the first of `order`."""

    @property
    def kept_names(self) -> list[str]:
        """Names of the kept images, best first."""
        return [self.names[number] for number in self.order[: self.kept].tolist()]

    @property
    def unreadable(self) -> list[str]:
        """Names of the images that have no score."""
        return [self.names[number] for number in np.flatnonzero(np.isnan(self.scores)).tolist()]

    @property
    def cut(self) -> float:
        """Score of the last kept image."""
        return float(self.scores[self.order[self.kept - 1]])


def select_images(  # noqa: PLR0913
    fabric: Fabric,
    pretrained: TrainedModel,
    finetuned: TrainedModel,
    root: Path,
    names: Sequence[str],
    listing: Path,
    table: Path,
    *,
    keep: float = 0.5,
    direction: Direction = "high",
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Selection:
    """Score images, rank them, and write the list of the best and a table of all scores.

    Scores of a stopped command are taken from the work folder beside the list, those of a finished one from its table,
    if models, images, size and precision are the same. With several processes every one must call this and see the same
    files; they share the images, and the first writes.

    Args:
        fabric: Device, precision and processes.
        pretrained: theta_s, the model pre-trained on the large set.
        finetuned: theta_t, the same fine-tuned on re-identification.
        root: The data's folder.
        names: N different names, relative to it.
        listing: File for the names that are kept, best first: see `write_list`.
        table: Parquet file for all images: see `write_scores`.
        keep: A share in (0, 1] of the readable images, rounded up, or a number of them above 1.
        direction: `high` keeps the highest scores, `low` the lowest.
        chunk: Most images in memory at a time; twice as many while the next are read.
        progress: Gets the number of images done.

    Raises:
        CheckpointError: The models do not go together, or compute no finite features.
        ConfigError: `keep` is out of bounds.
        DataError: No image is readable, or a name cannot be written.
        RunError: The work folder is of other inputs, or a file cannot be written.
    """
    _kept_count(keep, len(names))
    _check_pair(pretrained, finetuned)
    group = ProcessGroup.of_fabric(fabric)

    # Scores that earlier commands have left
    inputs = _describe_inputs(fabric, pretrained, finetuned, root, names, chunk)
    known = read_scores(table, inputs)
    if known is not None and len(known) != len(names):  # a damaged table is no help
        known = None
    work = WorkFolder(listing.with_name(f"{listing.name}.work"), ())
    _begin_work(work, inputs, group)

    # The other scores
    scores = _score_images(fabric, (pretrained, finetuned), root, names, work, known, chunk, progress or Progress())

    # The list and the table
    selection = rank_images(names, scores, keep=keep, direction=direction)
    if group.is_main:
        _warn_of_unreadable(selection)
        write_list(listing, selection.kept_names)
        write_scores(table, names, scores, selection.order, selection.kept, inputs)
        work.remove()
    return selection


def _score_images(
    fabric: Fabric,
    models: tuple[TrainedModel, TrainedModel],
    root: Path,
    names: Sequence[str],
    work: WorkFolder,
    known: Scores | None,
    chunk: int,
    progress: Progress,
) -> Scores:
    """Cosines (N,) of the features before the neck in two models, c(x) = cos(theta_s(x), theta_t(x)); NaN: unreadable.

    Nothing is augmented, and each image is read once, at the size of the models. Only chunks with a NaN among the known
    scores (N,) are scored. Rank r of W processes takes the chunks r, r + W, ...; each has all scores in the end.
    """
    group = ProcessGroup.of_fabric(fabric)
    work.load()
    group.barrier()  # none is written before all have looked
    bounds = _bounds(len(names), chunk)
    own = [
        (number, (start, stop))
        for number, (start, stop) in list(enumerate(bounds))[group.rank :: group.size]
        if number not in work.blocks and (known is None or np.isnan(known[start:stop]).any())
    ]

    # Scores of this process's chunks
    for trained in models:
        place(fabric, trained.model)
        trained.model.eval()
    progress.begin("score", sum(stop - start for _, (start, stop) in own))
    done = 0
    for (number, (start, stop)), images in _read_ahead(root, names, models[1].model.image_size, own):
        cosines = _cosines(fabric, models, images.pixels)
        cosines[~images.readable] = np.nan
        _check_finite(cosines, images.readable, names[start:stop])
        work.add(cosines, {}, number=number)
        done += stop - start
        progress.advance(done)

    # Scores of all
    group.barrier()
    work.load()
    scores = np.full(len(names), np.nan, dtype=np.float32) if known is None else known.copy()
    for number, (start, stop) in enumerate(bounds):
        if known is None or number in work.blocks:
            scores[start:stop] = work.rows(number, stop - start)
    group.barrier()  # the first process removes the files
    finish_together()
    return scores


def rank_images(names: Sequence[str], scores: Scores, *, keep: float, direction: Direction = "high") -> Selection:
    """Rank images by their scores and count those to keep.

    Args:
        names: N different names.
        scores: (N,), NaN where the image is unreadable: it comes last and is never kept.
        keep: A share in (0, 1] of the readable images, rounded up, or a number of them above 1.
        direction: `high` ranks the highest score first, `low` the lowest. Equal scores are ranked by name.

    Raises:
        ConfigError: `keep` is out of bounds.
        DataError: No image has a score.
    """
    readable = len(names) - int(np.isnan(scores).sum())
    if not readable:
        raise DataError(
            f"none of {len(names):,} images is readable, the first is {names[0]!r}; check the data's folder"
        )
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    keys = scores[by_name]
    order = by_name[np.argsort(-keys if direction == "high" else keys, kind="stable")]  # NaN sorts last
    return Selection(names, scores, order, _kept_count(keep, readable))


def _kept_count(keep: float, images: int) -> int:
    """Count the images to keep. A share rounds up, which gives both published subsets of LUPerson."""
    if 0 < keep <= 1:
        # The share as it was typed: 0.07 of 100 is 7, but 0.07 * 100 is a little more.
        return math.ceil(Fraction(str(keep)) * images)
    if not (keep > 1 and float(keep).is_integer()):
        raise ConfigError(f"keep={keep:g} is neither a share in (0, 1] nor a whole number of images above 1")
    if keep > images:
        raise ConfigError(f"keep={keep:,.0f} of {images:,} readable images; lower it, or give a share such as 0.5")
    return int(keep)


def _check_pair(pretrained: TrainedModel, finetuned: TrainedModel) -> None:
    """Refuse two models whose features cannot be compared."""
    for what, one, other in (
        ("images of HxW", pretrained.model.image_size, finetuned.model.image_size),
        ("features of D", (pretrained.model.feature_dim,), (finetuned.model.feature_dim,)),
    ):
        if one != other:
            sizes = ["x".join(map(str, size)) for size in (one, other)]
            raise CheckpointError(
                f"the pre-trained model {pretrained.path} has {what} = {sizes[0]}, the fine-tuned {finetuned.path} "
                f"{sizes[1]}; the score compares a model with itself after fine-tuning: name checkpoints of one model"
            )


def _describe_inputs(
    fabric: Fabric,
    pretrained: TrainedModel,
    finetuned: TrainedModel,
    root: Path,
    names: Sequence[str],
    chunk: int,
) -> dict[str, Any]:
    """Everything that scores depend on, under names for messages."""
    listed = hashlib.sha256()
    for name in names:
        listed.update(name.encode() + b"\0")
    described: dict[str, Any] = {
        "data folder": str(root.resolve()),
        "list of images": f"{len(names)} {listed.hexdigest()}",
        "image size": list(finetuned.model.image_size),
        "precision": str(fabric.strategy.precision.precision),
        "images per chunk": chunk,
    }
    for what, trained in (("pre-trained model", pretrained), ("fine-tuned model", finetuned)):
        with trained.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described[what] = [digest, list(trained.config.data.mean), list(trained.config.data.std)]
    return described


def _begin_work(work: WorkFolder, inputs: dict[str, Any], group: ProcessGroup) -> None:
    """Make the work folder, or make sure that the one that is there is of the same inputs."""
    if group.is_main and work.read_key() is None:
        work.begin(inputs)
    group.barrier()
    found = work.read_key() or {}
    different = [name for name, value in inputs.items() if found.get(name) != value]
    if different:
        raise RunError(
            f"{work.path} holds scores of a stopped selection with another {' and another '.join(different)}; repeat "
            "that command to go on with it, remove the folder to start from the beginning, or write to another file"
        )


def _bounds(count: int, chunk: int) -> list[tuple[int, int]]:
    """First image, and the one after the last, of every chunk; sizes differ by at most 1."""
    chunks = -(-count // chunk)
    return list(pairwise(count * number // chunks for number in range(chunks + 1)))


Chunk = tuple[int, tuple[int, int]]


def _read_ahead(
    root: Path, names: Sequence[str], size: tuple[int, int], chunks: Sequence[Chunk]
) -> Iterator[tuple[Chunk, DecodedImages]]:
    """Read the images of every chunk; the next chunk is read while the caller works on one."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read, root, names[slice(*bound)], size) for _, bound in chunks[:1]]
        for number, chunk in enumerate(chunks, start=1):
            images = ahead.pop().result()
            ahead += [
                reader.submit(_read, root, names[slice(*bound)], size) for _, bound in chunks[number : number + 1]
            ]
            yield chunk, images


def _read(root: Path, names: Sequence[str], size: tuple[int, int]) -> DecodedImages:
    """Read images at the model's size (H, W)."""
    try:
        return decode_images([root / name for name in names], size)
    except DataError as error:  # none is readable; those of other chunks may be
        nothing = np.zeros((len(names), 3, *size), dtype=np.uint8)
        return DecodedImages(nothing, np.zeros(len(names), dtype=np.bool_), (str(error),))


def _cosines(fabric: Fabric, models: tuple[TrainedModel, TrainedModel], pixels: NDArray[np.uint8]) -> Scores:
    cosines = np.empty(len(pixels), dtype=np.float32)
    batch_size = models[1].config.evaluation.batch_size
    with torch.inference_mode(), fabric.autocast():
        for start in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(pixels[start : start + batch_size]).to(fabric.device, non_blocking=True)
            one, other = (
                trained.model(normalise(batch, trained.config.data.mean, trained.config.data.std)).before_neck
                for trained in models
            )
            cosines[start : start + len(batch)] = functional.cosine_similarity(one, other).float().cpu().numpy()
    return cosines


def _check_finite(cosines: Scores, readable: NDArray[np.bool_], names: Sequence[str]) -> None:
    broken = np.flatnonzero(readable & ~np.isfinite(cosines))
    if len(broken):
        raise CheckpointError(
            f"the features of {len(broken):,} of {len(names):,} images are not finite, the first {names[broken[0]]!r}; "
            "a checkpoint holds broken weights, or needs --precision 32"
        )


def _warn_of_unreadable(selection: Selection) -> None:
    images = f"{len(selection.names):,} images"
    for warning in unreadable_warnings(selection.unreadable, images, " (they have no score)"):
        logger.warning("%s", warning)
