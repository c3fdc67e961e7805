"""Pictures of clusters, small enough to lie inside the page."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.reporting.run import Clustering

__all__ = ["Gallery", "Thumbnail", "Tile", "make_gallery"]

LARGEST = 12
PER_CLUSTER = 10
NOISE = 20

_BOX = (96, 160)
"""Most width and height of a thumbnail in pixels; the page shows it at about half of that, sharp on dense screens."""
_QUALITY = 75


class Thumbnail(NamedTuple):
    """One small picture."""

    name: str
    """File name of the image."""
    source: str
    """JPEG as a data URI; empty if the image is gone or unreadable."""
    problem: str
    """Why there is no picture, otherwise empty."""


class Tile(NamedTuple):
    """One cluster, or the noise, in pictures."""

    title: str
    size: int
    """Images that belong to it; the thumbnails are a sample of them."""
    thumbnails: list[Thumbnail]


class Gallery(NamedTuple):
    """What the clustering found, in pictures."""

    clusters: list[Tile]
    """The largest, in descending order of size."""
    noise: Tile | None
    """None if no image is noise."""

    @property
    def thumbnails(self) -> list[Thumbnail]:
        """All of them, in the order of the page."""
        tiles = self.clusters if self.noise is None else [*self.clusters, self.noise]
        return [thumbnail for tile in tiles for thumbnail in tile.thumbnails]


def make_gallery(clustering: Clustering) -> Gallery:
    """Show the 12 largest clusters by up to 10 images each, and up to 20 noise images.

    Where there are more, the images are taken at even distances from the list: neighbours in it are often
    consecutive frames.
    """
    labels, sizes = clustering.clusters
    largest = np.argsort(-sizes, kind="stable")[:LARGEST]
    clusters = [
        _tile(clustering, f"Cluster {labels[index]}", clustering.labels == labels[index], PER_CLUSTER)
        for index in largest
    ]
    noise = _tile(clustering, "Noise", clustering.labels < 0, NOISE) if clustering.noise else None
    return Gallery(clusters, noise)


def make_thumbnail(path: Path) -> Thumbnail:
    """Shrink one image; one that cannot be shown says why."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # JPEG decoders shrink by powers of two for free.
            image.draft("RGB", (2 * _BOX[0], 2 * _BOX[1]))
            picture = image.convert("RGB")
        picture.thumbnail(_BOX)
        encoded = BytesIO()
        picture.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    except (FileNotFoundError, NotADirectoryError):
        return Thumbnail(path.name, "", "gone")
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return Thumbnail(path.name, "", "unreadable")
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Thumbnail(path.name, f"data:image/jpeg;base64,{data}", "")


def _tile(clustering: Clustering, title: str, members: NDArray[np.bool_], most: int) -> Tile:
    indexes = np.flatnonzero(members)
    chosen: Sequence[int] = indexes[_evenly(len(indexes), most)].tolist()
    return Tile(title, len(indexes), [make_thumbnail(Path(clustering.paths[index])) for index in chosen])


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to count - 1, at even distances."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
