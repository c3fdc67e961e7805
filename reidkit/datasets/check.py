"""Checking a data set: counts, files, copies, and images of the test that are trained on."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.datasets.benchmarks import CATALOG
from reidkit.datasets.decoding import iterate_images
from reidkit.datasets.file_checks import FileFacts, inspect_files
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, Split

__all__ = ["DatasetFacts", "ImageSize", "SplitFacts", "check_dataset"]

_SPLITS = ("train", "query", "gallery")
_PROBE_SIZE = (8, 4)  # decoding is the check, not the pixels
_PROGRESS_EVERY = 256
_NARROW = 10  # pixels
_LONG = 8  # times as long as wide

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Counts of one split."""

    name: str
    """train, query or gallery."""
    identities: int
    images: int
    cameras: int
    published: tuple[int, int] | None
    """Identities and images as published; None where they are not."""
    images_per_identity: tuple[int, float, int] | None
    """Least, median and most images of an identity, distractors left out; None without identities."""
    images_per_camera: dict[int, int]
    """0-based camera -> images; -1 is unknown."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """An image and its size in pixels."""

    path: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Findings in a data set."""

    name: str
    version: str
    root: str
    splits: tuple[SplitFacts, ...]
    """Train, query and gallery."""
    smallest: ImageSize | None
    """The image with the shortest side; None if no file was looked at."""
    largest: ImageSize | None
    """The image with the longest side."""
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of files with the same bytes."""
    problems: tuple[str, ...]
    """Differences from the published counts, and faults that spoil results."""
    notes: tuple[str, ...]
    """Further findings, which are no faults."""

    def as_dict(self) -> dict[str, Any]:
        """The same in types of JSON."""
        return asdict(self)


def check_dataset(
    dataset: ReIDDataset, *, files: bool = True, read: bool = False, progress: Progress | None = None
) -> DatasetFacts:
    """Count a data set, compare it with the published counts, and inspect its files.

    Args:
        dataset: As loaded.
        files: Look into the files for sizes, damage and copies; without, only names are counted.
        read: Decode every image too.
        progress: Called with (done, total) while files are read.
    """
    # Counts and files
    splits = tuple(_split_facts(dataset, name) for name in _SPLITS)
    paths = [path for name in _SPLITS for path in getattr(dataset, name).paths]
    facts = inspect_files(paths, progress) if files else FileFacts(np.zeros((0, 2), dtype=np.int64), (), ())
    unreadable = _undecodable(paths, progress) if read else facts.problems
    # Findings
    is_published = dataset.name in CATALOG
    lacking, unlabelled = _missing(dataset)
    leaks, copies = _copies(dataset, paths, facts.duplicates)
    seen = _seen_identities(dataset)
    problems = [
        *_unexpected_counts(dataset, splits),
        *lacking,
        *(seen if is_published else []),
        *_unmatched(dataset),
        *leaks,
        *_found_again(dataset, facts.duplicates),
        *(f"unreadable image {problem}" for problem in unreadable),
    ]
    notes = [*unlabelled, *([] if is_published else seen), *copies, *_odd_sizes(paths, facts)]
    duplicates = tuple(tuple(str(paths[index]) for index in group) for group in facts.duplicates)
    found = (*_extremes(paths, facts), duplicates, tuple(problems), tuple(notes))
    return DatasetFacts(dataset.name, dataset.version, str(dataset.root), splits, *found)


def _split_facts(dataset: ReIDDataset, name: str) -> SplitFacts:
    split: Split = getattr(dataset, name)
    published = CATALOG[dataset.name].expected.get(name) if dataset.name in CATALOG else None
    known = split.identities if name == "train" else split.identities[dataset.is_person(split.identities)]
    counts = np.unique(known[known != UNKNOWN], return_counts=True)[1]
    cameras, images = np.unique(split.cameras, return_counts=True)
    return SplitFacts(
        name,
        split.identity_count,
        len(split),
        split.camera_count,
        published,
        (int(counts.min()), float(np.median(counts)), int(counts.max())) if len(counts) else None,
        dict(zip(cameras.tolist(), images.tolist(), strict=True)),
    )


def _unexpected_counts(dataset: ReIDDataset, splits: Sequence[SplitFacts]) -> list[str]:
    findings = []
    for split in splits:
        if split.published is None:
            continue
        identities, images = split.published
        # The number of identities of a gallery depends on how distractors are counted
        if split.images != images or (split.name != "gallery" and split.identities != identities):
            findings.append(
                f"{split.name} has {split.identities:,} identities and {split.images:,} images; "
                f"published are {identities:,} and {images:,}"
            )
    found = splits[0].cameras
    if dataset.name in CATALOG and found != CATALOG[dataset.name].cameras:
        findings.append(f"train has {found} cameras; published are {CATALOG[dataset.name].cameras}")
    return findings


def _missing(dataset: ReIDDataset) -> tuple[list[str], list[str]]:
    """Problems and notes on unknown cameras and on empty splits, without those that the data set never had."""
    is_published = dataset.name in CATALOG
    problems: list[str] = []
    notes: list[str] = []
    if not is_published and not dataset.train.camera_count:
        notes.append("no training image has a camera id: where cameras are unknown, evaluation leaves out no images")
    empty = [
        name
        for name in (CATALOG[dataset.name].expected if is_published else _SPLITS)
        if not len(getattr(dataset, name))
    ]
    if empty:
        is_training_set = empty == ["query", "gallery"] and not is_published
        (notes if is_training_set else problems).append(
            f"there are no {' and no '.join(empty)} images: training needs train, evaluation needs query and gallery"
        )
    return problems, notes


def _seen_identities(dataset: ReIDDataset) -> list[str]:
    """Identities of query and gallery that are trained on too."""
    if not dataset.comparable or dataset.train.originals is None:
        return []
    tested = np.concatenate([dataset.query.identities, dataset.gallery.identities])
    shared = np.intersect1d(dataset.train.originals, tested[dataset.is_person(tested)])
    if not len(shared):
        return []
    return [
        f"{len(shared):,} identities are both in train and in query or gallery, for instance {shared[0]}: an "
        "evaluation is of people that training has seen, unless the two number their people independently"
    ]


def _unmatched(dataset: ReIDDataset) -> list[str]:
    """Queries whose identity appears in the gallery at their own camera only, or not at all."""
    query, gallery = dataset.query, dataset.gallery
    cameras_of = {identity: gallery.cameras[gallery.identities == identity] for identity in np.unique(query.identities)}
    lost = [
        path
        for path, identity, camera in zip(query.paths, query.identities, query.cameras, strict=True)
        if not ((cameras_of[identity] != camera) | (cameras_of[identity] == UNKNOWN)).any()
    ]
    if not lost:
        return []
    return [
        f"{len(lost):,} of {len(query):,} queries have no gallery image of their identity at another camera and do not "
        f"count in an evaluation, for instance {lost[0].name}"
    ]


def _copies(
    dataset: ReIDDataset, paths: Sequence[Path], groups: Sequence[tuple[int, ...]]
) -> tuple[list[str], list[str]]:
    """Problems and notes on files with the same bytes: test images among training images, and other copies."""
    trained = len(dataset.train)
    problems: list[str] = []
    notes: list[str] = []
    leaks = [group for group in groups if group[0] < trained <= group[-1]]
    others = [group for group in groups if not group[0] < trained <= group[-1]]
    if leaks:
        count = sum(index >= trained for group in leaks for index in group)
        problems.append(
            f"{count:,} images of query and gallery are training images too, byte by byte, for instance "
            f"{paths[leaks[0][-1]]} is {paths[leaks[0][0]]}: scores on them are too good; remove them from one side"
        )
    if others:
        count = sum(len(group) - 1 for group in others)
        notes.append(
            f"{count:,} images repeat others of the same side, byte by byte, for instance {paths[others[0][1]]} is "
            f"{paths[others[0][0]]}"
        )
    identities = np.concatenate([getattr(dataset, name).identities for name in _SPLITS])
    torn = [group for group in others if len({*identities[list(group)].tolist()} - {UNKNOWN}) > 1]
    if torn:
        notes.append(
            f"{len(torn):,} images are given to several identities, for instance {paths[torn[0][0]]} and "
            f"{paths[torn[0][-1]]} have the same bytes"
        )
    return problems, notes


def _found_again(dataset: ReIDDataset, groups: Sequence[tuple[int, ...]]) -> list[str]:
    """Queries that the gallery holds byte by byte as a match: another camera than theirs is said, or none is known."""
    first = len(dataset.train)
    paths = [*dataset.query.paths, *dataset.gallery.paths]
    identities, cameras = (
        np.concatenate([getattr(dataset.query, column), getattr(dataset.gallery, column)])
        for column in ("identities", "cameras")
    )
    found: dict[int, int] = {}
    for group in groups:
        tested = np.array(group)[np.array(group) >= first] - first
        images = tested[tested >= len(dataset.query)]
        for query in tested[tested < len(dataset.query)].tolist():
            left_out = (cameras[images] == cameras[query]) & (cameras[images] != UNKNOWN)
            copies = images[(identities[images] == identities[query]) & ~left_out]
            if len(copies):
                found[query] = int(copies[0])
    if not found:
        return []
    query, image = next(iter(found.items()))
    return [
        f"{len(found):,} of {len(dataset.query):,} queries find themselves in the gallery, byte by byte, and no "
        f"camera rules it out, for instance {paths[query]} is {paths[image]}: scores are too good; remove them from "
        "one side, or give their cameras"
    ]


def _undecodable(paths: Sequence[Path], progress: Progress | None) -> list[str]:
    problems = []
    with closing(iterate_images(paths, _PROBE_SIZE)) as images:
        for index, (path, image) in enumerate(zip(paths, images, strict=True)):
            if isinstance(image, str):
                problems.append(f"{path}: {image}")
            if progress is not None and index % _PROGRESS_EVERY == 0:
                progress(index, len(paths))
    return problems


def _odd_sizes(paths: Sequence[Path], facts: FileFacts) -> list[str]:
    sides = np.sort(facts.sizes, axis=1)
    odd = np.flatnonzero((sides[:, 0] > 0) & ((sides[:, 0] < _NARROW) | (sides[:, 1] > _LONG * sides[:, 0])))
    if not len(odd):
        return []
    height, width = facts.sizes[odd[0]]
    return [
        f"{len(odd):,} images are below {_NARROW} pixels on a side or over {_LONG} times as long as wide, for instance "
        f"{paths[odd[0]]} ({width:,} x {height:,})"
    ]


def _extremes(paths: Sequence[Path], facts: FileFacts) -> tuple[ImageSize | None, ImageSize | None]:
    """The images with the shortest and with the longest side."""
    measured = np.flatnonzero(facts.sizes.all(axis=1))
    if not len(measured):
        return None, None
    sizes = facts.sizes[measured]
    picks = measured[[sizes.min(axis=1).argmin(), sizes.max(axis=1).argmax()]]
    smallest, largest = (ImageSize(str(paths[pick]), *facts.sizes[pick].tolist()) for pick in picks)
    return smallest, largest
