"""Contact sheets: rows of labelled thumbnails in one picture, of a data set or of clusters."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reidkit.datasets.decoding import Pixels, resize_image
from reidkit.datasets.image_files import open_image
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, Split
from reidkit.errors import DataError

__all__ = ["SheetImage", "SheetRow", "draw_clusters", "draw_contact_sheet", "write_contact_sheet"]

_HEIGHT, _WIDTHS = 128, (40, 240)
_GAP, _MARGIN, _CAPTION, _CAPTION_LINE, _HEADING, _LABEL = 6, 16, 18, 15, 34, 96
_PAPER, _INK, _FAINT, _QUERY, _VOID = "#ffffff", "#1f2328", "#6e7781", "#0969da", "#d8dee4"
_TEST_SHARE = 3  # one row in three shows an identity of query and gallery
_CLUSTERS = _CLUSTER_IMAGES = 10
_CLUSTER_HEIGHT, _CLUSTER_WIDTHS = 96, (32, 192)


class SheetImage(NamedTuple):
    """One thumbnail of a contact sheet."""

    picture: Image.Image | None
    """RGB, scaled to fit its cell; None is an unreadable image, drawn as a crossed grey box."""
    caption: str = ""
    """Text below the thumbnail; several lines are allowed."""
    colour: str | None = None
    """Colour of a frame around the thumbnail and of its caption, "#rrggbb"; None has no frame and a grey caption."""


class SheetRow(NamedTuple):
    """One row of a contact sheet."""

    images: Sequence[SheetImage]
    label: tuple[str, str] = ("", "")
    """Two lines on the left of the row; the second is small."""


def draw_contact_sheet(
    rows: Sequence[SheetRow], title: str = "", *, height: int = _HEIGHT, widths: tuple[int, int] = _WIDTHS
) -> Image.Image:
    """Draw rows of labelled thumbnails below a title.

    All cells have one size; an image is scaled to fit its cell and keeps its shape.

    Args:
        rows: At least one row with at least one image.
        title: One line.
        height: Height of a cell in pixels.
        widths: Smallest and largest width of a cell in pixels; between them it follows the median shape of the images.

    Returns:
        The sheet, RGB.
    """
    # Sizes
    images = [image for row in rows for image in row.images]
    width = _cell_width([image.picture for image in images if image.picture is not None], height, widths)
    further_lines = max(image.caption.count("\n") for image in images)
    row_height = height + _CAPTION + further_lines * _CAPTION_LINE + _GAP
    left_edge = _MARGIN + (_LABEL if any(any(row.label) for row in rows) else 0)
    upper_edge = _MARGIN + (_HEADING if title else 0)
    columns = max(len(row.images) for row in rows)
    size = left_edge + columns * (width + _GAP) - _GAP + _MARGIN, upper_edge + len(rows) * row_height - _GAP + _MARGIN
    # Title
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    draw.text((_MARGIN, _MARGIN), title, _INK, font)
    # Rows: label, thumbnails, frames, captions
    for number, row in enumerate(rows):
        top = upper_edge + number * row_height
        draw.text((_MARGIN, top + 4), row.label[0], _INK, font)
        draw.text((_MARGIN, top + 24), row.label[1], _FAINT, small)
        for column, image in enumerate(row.images):
            left = left_edge + column * (width + _GAP)
            _paste(sheet, draw, image.picture, (left, top, left + width, top + height))
            if image.colour is not None:
                draw.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=image.colour, width=2)
            draw.text((left, top + height + 2), image.caption, image.colour or _FAINT, small)
    return sheet


def draw_clusters(labels: NDArray[np.int64], pixels: Pixels) -> Image.Image:
    """Draw up to 10 clusters by up to 10 images, the same for the same labels.

    A row is a cluster, larger ones above: the largest, the smallest, and others at even distances between them in the
    order of sizes. Its images are taken at even distances from the list: neighbours in it are often consecutive frames.

    Args:
        labels: (N,) cluster of every image, of at least one; -1 is noise, which is not shown.
        pixels: (N, 3, H, W) uint8 RGB.

    Returns:
        The sheet, RGB.
    """
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    ranked = np.argsort(-sizes, kind="stable")
    rows = []
    for index in ranked[_evenly(len(ranked), _CLUSTERS)].tolist():
        members = np.flatnonzero(labels == names[index])
        shown = pixels[members[_evenly(len(members), _CLUSTER_IMAGES)]]
        images = [SheetImage(Image.fromarray(image.transpose(1, 2, 0))) for image in shown]
        rows.append(SheetRow(images, (f"{names[index]}", f"{sizes[index]:,} images")))
    return draw_contact_sheet(rows, height=_CLUSTER_HEIGHT, widths=_CLUSTER_WIDTHS)


def write_contact_sheet(dataset: ReIDDataset, path: Path, *, rows: int = 12, columns: int = 10, seed: int = 0) -> None:
    """Draw a random sample of a data set, the same for the same seed.

    A row is one identity, its images ordered by camera and spread over the cameras; query images are framed. Two thirds
    of the rows are of training identities. Images without identities fill a plain grid. Unreadable images are grey.

    Args:
        dataset: As loaded.
        path: Picture to write: .png, .jpg or .jpeg.
        rows: Identities at most, >= 1.
        columns: Images of an identity at most, >= 1.
        seed: Of the sample.

    Raises:
        DataError: The data set has no images, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"a contact sheet is a .png or .jpg picture, not {path.name!r}; give it such a name")
    sample = _sample(dataset, rows, columns, np.random.default_rng(seed))
    if not sample:
        raise DataError(f"{dataset.name} ({dataset.root}) has no images to show; complete it, or name another data set")
    legend = "; framed: query images" if any(image.is_query for _, images in sample for image in images) else ""
    drawn = [
        SheetRow([SheetImage(_read(one.path), one.caption, _QUERY if one.is_query else None) for one in images], label)
        for label, images in sample
    ]
    sheet = draw_contact_sheet(drawn, f"{dataset.name}: {dataset.version}{legend}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}); name another file") from None


class _SampleImage(NamedTuple):
    path: Path
    caption: str
    is_query: bool = False


_SampleRow = tuple[tuple[str, str], list[_SampleImage]]
"""Label and images: of one identity, or some images without identities."""


def _sample(dataset: ReIDDataset, rows: int, columns: int, rng: np.random.Generator) -> list[_SampleRow]:
    trained = np.unique(dataset.train.identities[dataset.train.identities != UNKNOWN])
    # Identities of queries are persons: the gallery has distractors besides.
    tested = np.unique(dataset.query.identities)
    if not len(trained) and not len(tested):
        return _grid(dataset.train, rows, columns, rng)
    tests = min(len(tested), rows // _TEST_SHARE if len(trained) else rows)
    trains = min(len(trained), rows - tests)
    tests = min(len(tested), rows - trains)
    return [
        *(_training_row(dataset.train, identity, columns, rng) for identity in _some(trained, trains, rng)),
        *(_test_row(dataset, identity, columns, rng) for identity in _some(tested, tests, rng)),
    ]


def _grid(split: Split, rows: int, columns: int, rng: np.random.Generator) -> list[_SampleRow]:
    chosen = _some(np.arange(len(split)), rows * columns, rng)
    images = [_sample_image(split, index) for index in chosen]
    return [
        (("images", f"of {len(split):,}") if start == 0 else ("", ""), images[start : start + columns])
        for start in range(0, len(images), columns)
    ]


def _training_row(split: Split, identity: int, columns: int, rng: np.random.Generator) -> _SampleRow:
    members = np.flatnonzero(split.identities == identity)
    chosen = _over_cameras(members, split.cameras[members], columns, rng)
    name = identity if split.originals is None else split.originals[identity]
    images = [_sample_image(split, index) for index in chosen]
    return ((f"id {name}", f"train, {len(members):,}"), images)


def _test_row(dataset: ReIDDataset, identity: int, columns: int, rng: np.random.Generator) -> _SampleRow:
    """Queries first among the images of one camera; half of the row at most is theirs."""
    queries = np.flatnonzero(dataset.query.identities == identity)
    matches = np.flatnonzero(dataset.gallery.identities == identity)
    asked = min(len(queries), max(1, columns // 2, columns - len(matches)))
    images = [
        (int(split.cameras[index]), not is_query, _sample_image(split, index, is_query))
        for split, members, count, is_query in (
            (dataset.query, queries, asked, True),
            (dataset.gallery, matches, columns - asked, False),
        )
        for index in _over_cameras(members, split.cameras[members], count, rng)
    ]
    ordered = [image for *_, image in sorted(images, key=lambda entry: entry[:2])]
    return ((f"id {identity}", f"test, {len(queries) + len(matches):,}"), ordered)


def _some(values: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` of the values, at random, in their order."""
    chosen: list[int] = np.sort(rng.choice(values, min(count, len(values)), replace=False)).tolist()
    return chosen


def _over_cameras(
    members: NDArray[np.int64], cameras: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[int]:
    """At most `count` images, from as many cameras as there are and equally many of each, ordered by camera."""
    shuffled = rng.permutation(len(members))
    seen: dict[int, int] = {}
    turns = []
    for place in shuffled:
        camera = int(cameras[place])
        turns.append(seen.get(camera, 0))
        seen[camera] = turns[-1] + 1
    chosen = shuffled[np.argsort(turns, kind="stable")[:count]]
    ordered: list[int] = members[chosen[np.lexsort((chosen, cameras[chosen]))]].tolist()
    return ordered


def _sample_image(split: Split, index: int, is_query: bool = False) -> _SampleImage:
    camera = split.cameras[index]
    return _SampleImage(split.paths[index], "" if camera == UNKNOWN else f"cam {camera}", is_query)


def _evenly(number: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to number - 1, at even distances."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)


def _cell_width(pictures: Sequence[Image.Image], height: int, widths: tuple[int, int]) -> int:
    ratio = float(np.median([picture.width / picture.height for picture in pictures])) if pictures else 0.5
    return int(np.clip(round(height * ratio), *widths))


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image | None, box: tuple[int, int, int, int]
) -> None:
    """Fit an image into the middle of its box."""
    left, top, right, bottom = box
    if picture is None:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=_VOID)
        draw.line((left, top, right - 1, bottom - 1), _FAINT)
        draw.line((left, bottom - 1, right - 1, top), _FAINT)
        return
    width, height = _fit(picture, (right - left, bottom - top))
    corner = (left + right - width) // 2, (top + bottom - height) // 2
    sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), corner)


def _fit(picture: Image.Image, box: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image when it is scaled to fit a box (W, H)."""
    scale = min(box[0] / picture.width, box[1] / picture.height)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _read(path: Path) -> Image.Image | None:
    """An image as training sees it, no larger than the widest cell; None if it is unreadable."""
    try:
        with open_image(path) as image:
            return resize_image(image, _fit(image, (_WIDTHS[1], _HEIGHT)))
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except Exception:
        return None
