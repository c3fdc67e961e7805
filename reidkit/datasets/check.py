"""Does a data set hold what it should?"""

import numpy as np

from reidkit.datasets.benchmarks import CATALOG
from reidkit.datasets.images import decode_images
from reidkit.datasets.splits import UNKNOWN, ReIDDataset

__all__ = ["check_dataset"]

_PROBE_SIZE = (32, 16)  # decoding is the check, not the pixels


def check_dataset(dataset: ReIDDataset, *, read: bool = False) -> list[str]:
    """What is not as published, or will surprise; an empty list is good news.

    Args:
        dataset: As loaded.
        read: Decode every image too.
    """
    return [
        *_unexpected_counts(dataset),
        *_cameras(dataset),
        *_missing(dataset),
        *_unmatched(dataset),
        *_unreadable(dataset, read),
    ]


def _unexpected_counts(dataset: ReIDDataset) -> list[str]:
    if dataset.name not in CATALOG:
        return []
    splits = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    return [
        f"{name} has {splits[name].identity_count:,} identities and {len(splits[name]):,} images; "
        f"published are {identities:,} and {images:,}"
        for name, (identities, images) in CATALOG[dataset.name].expected.items()
        if (len(splits[name]) != images) or (name != "gallery" and splits[name].identity_count != identities)
    ]


def _cameras(dataset: ReIDDataset) -> list[str]:
    found = dataset.train.camera_count
    if dataset.name in CATALOG:
        published = CATALOG[dataset.name].cameras
        return [f"train has {found} cameras; published are {published}"] if found != published else []
    if found == 0:
        return ["no training image has a camera id: where cameras are unknown, evaluation leaves out no images"]
    return []


def _missing(dataset: ReIDDataset) -> list[str]:
    """Splits that are empty, without those that the data set never had."""
    names = CATALOG[dataset.name].expected if dataset.name in CATALOG else ("train", "query", "gallery")
    empty = [name for name in names if not len(getattr(dataset, name))]
    needs = "training needs train, evaluation needs query and gallery"
    return [f"there are no {' and no '.join(empty)} images: {needs}"] if empty else []


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


def _unreadable(dataset: ReIDDataset, read: bool) -> list[str]:
    if not read:
        return []
    paths = [path for split in (dataset.train, dataset.query, dataset.gallery) for path in split.paths]
    return [f"unreadable image {problem}" for problem in decode_images(paths, _PROBE_SIZE).problems]
