"""Plots of a selection: a histogram of the scores, and the images with the highest and the lowest."""

from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.datasets import SheetImage, SheetRow, decode_images, draw_contact_sheet
from reidkit.errors import DataError
from reidkit.pages import Bar, Figure, bar_chart, write_figures
from reidkit.pretrain.selection import Selection

__all__ = ["describe_selection", "write_selection_plots"]

_ROWS, _COLUMNS = 4, 10
_BINS = 40
_KEPT, _LEFT_OUT = "#0072B2", "#D55E00"  # blue and vermilion of Okabe and Ito, distinct for all kinds of colour vision


def describe_selection(selection: Selection) -> str:
    """Summarise a selection in one line: images kept, score of the last one, unreadable images."""
    unreadable = len(selection.unreadable)
    return (
        f"Kept {selection.kept:,} of {len(selection.names):,} images, cut at {selection.cut:.4f}"
        f"{f'; {unreadable:,} unreadable' if unreadable else ''}"
    )


def write_selection_plots(selection: Selection, root: Path, folder: Path, *, image_size: tuple[int, int]) -> None:
    """Write `scores.html`, a histogram of the scores, and `highest.png` and `lowest.png`, 40 images of each end.

    Args:
        selection: From `select_images` or `rank_images`.
        root: The data's folder.
        folder: Folder of the plots; made if it does not exist.
        image_size: Height and width at which the models read the images.

    Raises:
        DataError: The folder or a file cannot be written.
    """
    scored = len(selection.names) - len(selection.unreadable)
    first = list(range(min(_ROWS * _COLUMNS, scored)))
    last = [scored - 1 - place for place in first]
    best, worst = selection.scores[selection.order[[0, scored - 1]]]
    highest, lowest = (first, last) if best >= worst else (last, first)
    try:
        folder.mkdir(exist_ok=True)
        _write_histogram(selection, folder / "scores.html")
        for name, places in (("highest", highest), ("lowest", lowest)):
            _draw_sheet(selection, name, places, root, image_size).save(folder / f"{name}.png")
    except OSError as error:
        raise DataError(
            f"the plots could not be written to {folder}: {error}; name another folder by --plots"
        ) from error


def _write_histogram(selection: Selection, path: Path) -> None:
    kept, others = np.split(selection.scores[selection.order], [selection.kept])
    others = others[~np.isnan(others)]
    edges = np.histogram_bin_edges(np.concatenate([kept, others]), bins=_BINS)
    counts = zip(*(np.histogram(scores, edges)[0].tolist() for scores in (kept, others)), strict=True)
    bars = []
    for low, high, (inside, outside) in zip(edges, edges[1:], counts, strict=False):
        tips = [f"{low:.3f} to {high:.3f}: {inside:,} kept", f"{low:.3f} to {high:.3f}: {outside:,} left out"]
        bars.append(Bar(f"{low:.3f}", (inside, outside), tips))
    chart = bar_chart(bars, label="Number of images by score", foot="score")
    text = "The score is the cosine of an image's features before and after fine-tuning."
    write_figures(path, describe_selection(selection), text, [Figure("Images by score", ["kept", "left out"], chart)])


def _draw_sheet(
    selection: Selection, end: str, places: list[int], root: Path, image_size: tuple[int, int]
) -> Image.Image:
    """Draw images of one end as the models see them, each with its rank and score."""
    numbers = selection.order[places].tolist()
    pixels = decode_images([root / selection.names[number] for number in numbers], image_size).pixels
    images = [
        SheetImage(
            Image.fromarray(image.transpose(1, 2, 0)),
            f"#{place + 1:,}\n{selection.scores[number]:.3f}",
            _KEPT if place < selection.kept else _LEFT_OUT,
        )
        for place, number, image in zip(places, numbers, pixels, strict=True)
    ]
    rows = [SheetRow(images[start : start + _COLUMNS]) for start in range(0, len(images), _COLUMNS)]
    return draw_contact_sheet(rows, f"The {len(images)} {end} scores; blue: kept, vermilion: left out")
