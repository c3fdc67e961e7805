"""Small pictures inside the page."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Album", "Thumbnail", "data_uri", "open_picture"]

_BOX = (80, 136)
_QUALITY = 72


class Thumbnail(NamedTuple):
    """One small picture."""

    name: str
    """File name of the image."""
    source: str
    """JPEG as a data URI; empty if it cannot be shown."""
    problem: str
    """Why there is no picture, otherwise empty."""


class Album:
    """The thumbnails of a page: every image is read once, however often it is shown.

    Args:
        quality: JPEG quality, 1 to 95.
        budget: Most characters of all pictures together; those that come later are left out.
    """

    def __init__(self, quality: int = _QUALITY, budget: float = math.inf) -> None:
        self._quality, self._left = quality, budget
        self._made: dict[tuple[str, tuple[int, int]], Thumbnail] = {}

    def add(self, path: Path | str, box: tuple[int, int] = _BOX) -> Thumbnail:
        """Return the thumbnail of an image, or one that says why it cannot be shown.

        Args:
            path: The image.
            box: Largest width and height in pixels; pages show it at half of that, sharp on dense screens.
        """
        key = str(path), box
        if not self.full and key not in self._made:
            picture = open_picture(Path(path), box)
            shown = ("", picture) if isinstance(picture, str) else (data_uri(picture, self._quality), "")
            self._made[key] = Thumbnail(Path(path).name, *shown)
        thumbnail = self._made.get(key, Thumbnail(Path(path).name, "", "left out"))
        self._left -= len(thumbnail.source)
        return thumbnail._replace(source="", problem="left out") if self.full else thumbnail

    def add_all(self, paths: Sequence[Path | str]) -> list[Thumbnail]:
        """Return the thumbnails of several images."""
        return [self.add(path) for path in paths]

    @property
    def full(self) -> bool:
        """Whether pictures were left out because the budget is spent."""
        return self._left < 0

    @property
    def absent(self) -> str:
        """How many pictures are missing and why, as a sentence; empty if none is."""
        problems = [thumbnail.problem for thumbnail in self._made.values() if thumbnail.problem]
        reasons = {"gone": "no longer where the run found them", "unreadable": "unreadable"}
        causes = [f"{problems.count(name):,} {words}" for name, words in reasons.items() if name in problems]
        missing = f"{len(problems):,} of {len(self._made):,} images cannot be shown"
        return f"{missing}: {', '.join(causes)}." if problems else ""

    @property
    def empty(self) -> bool:
        """Whether there is no picture at all."""
        return not any(thumbnail.source for thumbnail in self._made.values())


def open_picture(path: Path, box: tuple[int, int]) -> "Picture | str":
    """Open an image as RGB, shrunk to fit the box (width, height); or return `gone` or `unreadable`."""
    from reidkit.datasets import open_image  # loads torch

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
    """Encode a picture as a JPEG inside the page."""
    encoded = BytesIO()
    picture.save(encoded, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
