"""Search for the gallery images that are most like a query."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering import nearest_neighbours
from reidkit.datasets import cache_folder
from reidkit.errors import ConfigError, DataError
from reidkit.evaluation import rerank as rerank_distances
from reidkit.inference.calibration import Calibration
from reidkit.inference.embedder import Embedder
from reidkit.inference.gallery_index import GalleryIndex, GalleryUpdate, is_index
from reidkit.loop import Progress
from reidkit.storage import atomic_write

__all__ = ["Match", "open_gallery", "search_gallery", "write_matches"]


class Match(NamedTuple):
    """A gallery image that a query found."""

    path: Path
    cosine: float
    """Similarity of the features, 1 is equal."""
    probability: float | None
    """That both show the same individual, at even odds before; None without a calibration."""
    distance: float | None
    """After re-ranking, in [0, 1]; None without."""


def open_gallery(
    gallery: Path,
    embedder: Embedder,
    folder: Path | None = None,
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[GalleryIndex, GalleryUpdate | None]:
    """Open a gallery to search: a saved index as it is, or the index of a folder of images, brought up to date.

    Args:
        gallery: A folder of images, or a saved index.
        embedder: From `load`.
        folder: Where the index of a folder of images is stored; None is a folder in the cache.
        batch_size: Images in a forward pass; None is the checkpoint's setting.
        progress: Gets the number of images done.

    Returns:
        The index, and the outcome of its update; None for a saved index.

    Raises:
        CheckpointError: The index is of another checkpoint or precision.
        ConfigError: The gallery is an index and `folder` names another one.
        DataError: The gallery is no folder or holds no images, or the index is damaged.
        RunError: The index cannot be written.
    """
    if is_index(gallery):
        if folder is not None:
            raise ConfigError(f"the gallery {gallery} is an index already; leave out --index, or name its images")
        return GalleryIndex(gallery, embedder), None
    if folder is None:
        key = f"{embedder.fingerprint} {embedder.precision} ".encode() + os.fsencode(os.path.abspath(gallery))
        folder = cache_folder() / "galleries" / hashlib.sha256(key).hexdigest()[:16]
    index = GalleryIndex(folder, embedder, gallery)
    return index, index.update(batch_size=batch_size, progress=progress)


def search_gallery(
    index: GalleryIndex,
    features: NDArray[np.float32],
    queries: Sequence[Path],
    *,
    top: int = 10,
    rerank: bool = False,
    calibration: Calibration | None = None,
) -> list[list[Match]]:
    """Rank the gallery for every query; a query that is an image of the gallery does not find itself.

    Args:
        index: The gallery, G images.
        features: (Q, D) of the queries, L2-normalised.
        queries: Their Q files.
        top: Matches of each query, fewer in a small gallery.
        rerank: Rank by k-reciprocal neighbours (Zhong et al., CVPR 2017) among queries and gallery instead of by
            cosine; time grows with (Q + G)^2, memory with Q G.
        calibration: Gives the probability of a match.

    Raises:
        DataError: `top` is below 1, or the gallery is empty.
    """
    gallery = index.features()
    if top < 1 or not len(gallery):
        raise DataError(f"top={top} matches of {len(gallery):,} gallery images: both must be 1 or more")
    # Candidates, one more than asked for in place of the query itself
    distances = rerank_distances(features, gallery) if rerank else None
    if distances is None:
        ranked = nearest_neighbours(gallery, top + 1, queries=features)
    else:
        ranked = np.argsort(distances, axis=1, kind="stable")[:, : top + 1]
    pairs = zip(features.astype(np.float64), ranked, strict=True)
    cosines = np.stack([gallery[images].astype(np.float64) @ query for query, images in pairs])
    if distances is None:  # the search rounds to float32
        order = np.lexsort((ranked, -cosines))
        ranked, cosines = (np.take_along_axis(values, order, 1) for values in (ranked, cosines))
    probabilities = None if calibration is None else calibration.probability(cosines)

    # Matches
    paths = index.paths()
    found = []
    for row, query in enumerate(queries):
        own = Path(os.path.abspath(query))
        matches = []
        for column, image in enumerate(ranked[row].tolist()):
            probability = None if probabilities is None else float(probabilities[row, column])
            distance = None if distances is None else float(distances[row, image])
            if paths[image] != own:
                matches.append(Match(paths[image], float(cosines[row, column]), probability, distance))
        found.append(matches[:top])
    return found


def write_matches(path: Path, queries: Sequence[Path], found: Sequence[Sequence[Match]]) -> None:
    """Write the matches of every query as JSON.

    Raises:
        RunError: The file cannot be written.
    """
    rows = [
        {"query": str(query), "matches": [{**match._asdict(), "path": str(match.path)} for match in ranked]}
        for query, ranked in zip(queries, found, strict=True)
    ]
    with atomic_write(path) as file:
        file.write((json.dumps(rows, indent=2) + "\n").encode())
