"""Pictures small enough to lie inside the page."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Album", "Thumbnail", "data_uri", "open_picture"]

_BOX = (80, 136)
"""Most width and height of a thumbnail in pixels; the page shows it at about half of that, sharp on dense screens."""
_QUALITY = 72


class Thumbnail(NamedTuple):
    """One small picture."""

    name: str
    """File name of the image."""
    source: str
    """JPEG as a data URI; empty if the image is gone or unreadable."""
    problem: str
    """Why there is no picture, otherwise empty."""


class Album:
    """The thumbnails of a page: every image is read once, however often it is shown."""

    def __init__(self) -> None:
        self._made: dict[str, Thumbnail] = {}

    def add(self, path: Path | str) -> Thumbnail:
        """The thumbnail of an image; one that cannot be shown says why."""
        name = str(path)
        if name not in self._made:
            self._made[name] = _make(Path(path))
        return self._made[name]

    def add_all(self, paths: Sequence[Path | str]) -> list[Thumbnail]:
        """The thumbnails of several images."""
        return [self.add(path) for path in paths]

    @property
    def absent(self) -> str:
        """Says which pictures are missing, empty if none is."""
        missing = [thumbnail for thumbnail in self._made.values() if thumbnail.problem]
        if not missing:
            return ""
        gone = sum(thumbnail.problem == "gone" for thumbnail in missing)
        causes = [f"{gone:,} no longer where the run found them"] if gone else []
        causes += [f"{len(missing) - gone:,} unreadable"] if gone < len(missing) else []
        return f"{len(missing):,} of {len(self._made):,} images cannot be shown: {', '.join(causes)}."

    @property
    def empty(self) -> bool:
        """Whether there is no picture at all."""
        return not any(thumbnail.source for thumbnail in self._made.values())


def open_picture(path: Path, box: tuple[int, int]) -> "Picture | str":
    """One image as RGB, shrunk to fit the box (width, height); or `gone` or `unreadable`."""
    from reidkit.datasets import open_image  # which loads torch

    try:
        with open_image(path) as image:
            # JPEG decoders shrink by powers of two for free.
            image.draft("RGB", (2 * box[0], 2 * box[1]))
            picture = image.convert("RGB")
        picture.thumbnail(box)
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except Exception:
        return "unreadable"
    return picture


def data_uri(picture: "Picture", quality: int = _QUALITY) -> str:
    """A picture as a JPEG inside the page."""
    encoded = BytesIO()
    picture.save(encoded, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def _make(path: Path) -> Thumbnail:
    picture = open_picture(path, _BOX)
    if isinstance(picture, str):
        return Thumbnail(path.name, "", picture)
    return Thumbnail(path.name, data_uri(picture), "")
