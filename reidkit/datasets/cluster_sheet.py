"""A picture of some clusters, for the eye that wants to see what the figures mean."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reidkit.datasets.images import Pixels

__all__ = ["draw_clusters"]

_ROWS = _COLUMNS = 10
_HEIGHT, _WIDTHS = 96, (32, 192)
"""Of a thumbnail in pixels: all have one height, and a width within these."""
_GAP, _LABEL = 4, 76
_PAPER, _INK, _FAINT = "#ffffff", "#1f2328", "#6e7781"


def draw_clusters(labels: NDArray[np.int64], pixels: Pixels, *, first: int = 0) -> Image.Image:
    """Draw up to 10 clusters by up to 10 images, the same for the same labels.

    A row is a cluster, larger ones above: the largest, the smallest, and others at even distances between them in the
    order of sizes. Its images are taken at even distances from the list: neighbours in it are often consecutive frames.

    Args:
        labels: (N,) cluster of every image, of at least one; -1 is noise, which is not shown.
        pixels: (M + N, 3, H, W) uint8 RGB; the images that have labels are the last N.
        first: Their beginning M.

    Returns:
        The picture, RGB.
    """
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    ranked = np.argsort(-sizes, kind="stable")
    shown = ranked[_evenly(len(ranked), _ROWS)]
    width = int(np.clip(round(_HEIGHT * pixels.shape[3] / pixels.shape[2]), *_WIDTHS))
    columns = min(_COLUMNS, int(sizes[shown].max()))
    size = _LABEL + columns * (width + _GAP), _GAP + len(shown) * (_HEIGHT + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for row, index in enumerate(shown.tolist()):
        top = _GAP + row * (_HEIGHT + _GAP)
        draw.text((_GAP, top), f"{names[index]}", _INK, font)
        draw.text((_GAP, top + 20), f"{sizes[index]:,} images", _FAINT, small)
        members = np.flatnonzero(labels == names[index])
        chosen = members[_evenly(len(members), columns)]
        for column, image in enumerate(pixels[first + chosen]):
            thumbnail = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            place = _LABEL + column * (width + _GAP), top
            sheet.paste(thumbnail.resize((width, _HEIGHT), Image.Resampling.BICUBIC), place)
    return sheet


def _evenly(number: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to number - 1, at even distances."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)
