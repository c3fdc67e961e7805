"""The matches of a search as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from reidkit.inference.gallery_search import Match
from reidkit.inference.pixels import printable
from reidkit.pages import Album, write_page

__all__ = ["write_search_page"]

_QUERY_BOX = (320, 480)
_MATCH_BOX = (180, 270)
_QUALITY = 80
_BUDGET = 14_000_000  # characters of pictures: browsers stay quick, and the page fits into a mail


def write_search_page(
    path: Path, queries: Sequence[Path], found: Sequence[Sequence[Match]], *, gallery: Path, checkpoint: Path
) -> None:
    """Write a page of every query beside its ranked matches.

    Pictures are thumbnails inside the page, up to 14 MB; later matches are shown by name alone. No script is used,
    nothing is fetched, and every name is escaped.

    Args:
        path: The page; an older one there is replaced in one step.
        queries: Q files.
        found: Their matches, from `search_gallery`.
        gallery: Folder or index that was searched.
        checkpoint: The model's file.

    Raises:
        RunError: The file cannot be written.
    """
    album, results = Album(_QUALITY, _BUDGET), []
    for query, ranked in zip(queries, found, strict=True):
        picture = album.add(query, _QUERY_BOX).source
        results.append((query, picture, [(match, album.add(match.path, _MATCH_BOX).source) for match in ranked]))
    matches = [match for ranked in found for match in ranked]
    content = {
        "title": "Search",
        "results": results,
        "gallery": printable(gallery),
        "checkpoint": printable(checkpoint),
        "printable": printable,
        "calibrated": any(match.probability is not None for match in matches),
        "reranked": any(match.distance is not None for match in matches),
        "full": album.full,
    }
    write_page(path, "reidkit.inference", "search.html.j2", content)
