"""What a search found, as one HTML file that needs nothing but a browser."""

import base64
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from reidkit.__about__ import __version__
from reidkit.datasets import open_image
from reidkit.inference.matching import Match
from reidkit.inference.pixels import printable
from reidkit.storage import atomic_write

__all__ = ["write_search_page"]

_QUERY_BOX = (320, 480)
"""Most width and height of a query in pixels; the page shows it at half of that, sharp on dense screens."""
_MATCH_BOX = (180, 270)
_QUALITY = 80
_BUDGET = 14_000_000  # characters of pictures: browsers stay quick, and mail takes the page


class _Card(NamedTuple):
    """A match as the page shows it."""

    rank: int
    name: str
    path: str
    picture: str
    cosine: float
    probability: float | None
    distance: float | None


class _Result(NamedTuple):
    name: str
    path: str
    picture: str
    cards: list[_Card]


def write_search_page(
    path: Path, queries: Sequence[Path], found: Sequence[Sequence[Match]], *, gallery: Path, checkpoint: Path
) -> None:
    """Write a page of every query beside its ranked matches.

    Pictures lie in it as thumbnails, each gallery image's once per query that found it, up to 14 MB; what comes after
    is shown by name. No script is used, nothing is fetched, and every name is escaped.

    Args:
        path: The page; an older one there is replaced in one step.
        queries: Q files.
        found: Their matches, from `search_gallery`.
        gallery: Folder or index that was searched.
        checkpoint: The model's file.

    Raises:
        RunError: The file cannot be written.
    """
    album = _Album()
    results = []
    for query, matches in zip(queries, found, strict=True):
        picture = album.picture(query, _QUERY_BOX)
        cards = [
            _Card(
                rank,
                printable(match.path.name),
                printable(match.path),
                album.picture(match.path, _MATCH_BOX),
                match.cosine,
                match.probability,
                match.distance,
            )
            for rank, match in enumerate(matches, start=1)
        ]
        results.append(_Result(printable(query.name), printable(query), picture, cards))
    environment = Environment(
        loader=PackageLoader("reidkit.inference", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("search.html.j2").render(
        results=results,
        gallery=printable(gallery),
        checkpoint=printable(checkpoint),
        calibrated=any(card.probability is not None for result in results for card in result.cards),
        reranked=any(card.distance is not None for result in results for card in result.cards),
        full=album.full,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
    )
    with atomic_write(path) as file:
        file.write(html.encode("utf-8", "replace"))


class _Album:
    """Thumbnails as data URIs, within the page's budget."""

    def __init__(self) -> None:
        self._made: dict[tuple[Path, tuple[int, int]], str] = {}
        self._left = _BUDGET
        self.full = False
        """Whether pictures are missing because there was no room for them."""

    def picture(self, path: Path, box: tuple[int, int]) -> str:
        """A picture as a data URI; empty if it is gone, unreadable, or one too many."""
        if self.full:
            return ""
        if (path, box) not in self._made:
            self._made[path, box] = _thumbnail(path, box)
        uri = self._made[path, box]
        self._left -= len(uri)
        self.full = self._left < 0
        return "" if self.full else uri


def _thumbnail(path: Path, box: tuple[int, int]) -> str:
    try:
        with open_image(path) as image:
            # JPEG decoders shrink by powers of two for free.
            image.draft("RGB", (2 * box[0], 2 * box[1]))
            picture = image.convert("RGB")
        picture.thumbnail(box)
        encoded = BytesIO()
        picture.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except Exception:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
