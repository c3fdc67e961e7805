"""A picture of a data set: some identities, each in a row of its images over the cameras."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reidkit.datasets.images import open_image, resize_image
from reidkit.datasets.splits import UNKNOWN, ReIDDataset, Split
from reidkit.errors import DataError

__all__ = ["write_contact_sheet"]

_CELL_HEIGHT = 128
_CELL_WIDTHS = (40, 240)
_GAP, _MARGIN, _CAPTION, _HEADING, _LABEL = 6, 16, 18, 34, 96
_PAPER, _INK, _FAINT, _QUERY, _VOID = "#ffffff", "#1f2328", "#6e7781", "#0969da", "#d8dee4"
_TEST_SHARE = 3  # of all rows, one in so many shows a person of query and gallery


class _Cell(NamedTuple):
    """One image of the sheet."""

    path: Path
    caption: str
    is_query: bool = False


class _Row(NamedTuple):
    label: tuple[str, str]
    """What it shows, in two lines."""
    cells: list[_Cell]


def write_contact_sheet(dataset: ReIDDataset, path: Path, *, rows: int = 12, columns: int = 10, seed: int = 0) -> None:
    """Draw a random sample of a data set, the same for the same seed.

    A row is one identity, its images ordered by camera and spread over the cameras; query images are framed. Two thirds
    of the rows are of training identities. Images without identities fill a plain grid. What cannot be read is grey.

    Args:
        dataset: As loaded.
        path: File to write, of a kind that its suffix tells: .png, .jpg.
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
    legend = "; framed: query images" if any(cell.is_query for row in sample for cell in row.cells) else ""
    sheet = _draw(f"{dataset.name}: {dataset.version}{legend}", sample)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}); name another file") from None


def _sample(dataset: ReIDDataset, rows: int, columns: int, rng: np.random.Generator) -> list[_Row]:
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


def _grid(split: Split, rows: int, columns: int, rng: np.random.Generator) -> list[_Row]:
    chosen = _some(np.arange(len(split)), rows * columns, rng)
    cells = [_Cell(split.paths[index], _camera(split.cameras[index])) for index in chosen]
    return [
        _Row(("images", f"of {len(split):,}") if start == 0 else ("", ""), cells[start : start + columns])
        for start in range(0, len(cells), columns)
    ]


def _training_row(split: Split, identity: int, columns: int, rng: np.random.Generator) -> _Row:
    members = np.flatnonzero(split.identities == identity)
    chosen = _over_cameras(members, split.cameras[members], columns, rng)
    name = identity if split.originals is None else split.originals[identity]
    cells = [_Cell(split.paths[index], _camera(split.cameras[index])) for index in chosen]
    return _Row((f"id {name}", f"train, {len(members):,}"), cells)


def _test_row(dataset: ReIDDataset, identity: int, columns: int, rng: np.random.Generator) -> _Row:
    """Queries first among the images of one camera; half of the row at most is theirs."""
    queries = np.flatnonzero(dataset.query.identities == identity)
    matches = np.flatnonzero(dataset.gallery.identities == identity)
    asked = min(len(queries), max(1, columns // 2, columns - len(matches)))
    cells = [
        (int(split.cameras[index]), not is_query, _Cell(split.paths[index], _camera(split.cameras[index]), is_query))
        for split, members, count, is_query in (
            (dataset.query, queries, asked, True),
            (dataset.gallery, matches, columns - asked, False),
        )
        for index in _over_cameras(members, split.cameras[members], count, rng)
    ]
    ordered = [cell for *_, cell in sorted(cells, key=lambda entry: entry[:2])]
    return _Row((f"id {identity}", f"test, {len(queries) + len(matches):,}"), ordered)


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


def _camera(camera: int) -> str:
    return "" if camera == UNKNOWN else f"cam {camera}"


def _draw(title: str, sample: Sequence[_Row]) -> Image.Image:
    pictures = [[_read(cell.path) for cell in row.cells] for row in sample]
    width = _cell_width([picture for row in pictures for picture in row if picture is not None])
    columns = max(len(row.cells) for row in sample)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    row_height = _CELL_HEIGHT + _CAPTION + _GAP
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + _LABEL + columns * (width + _GAP) - _GAP,
            2 * _MARGIN + _HEADING + len(sample) * row_height - _GAP,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, _INK, font)
    for number, (row, images) in enumerate(zip(sample, pictures, strict=True)):
        top = _MARGIN + _HEADING + number * row_height
        draw.text((_MARGIN, top + 4), row.label[0], _INK, font)
        draw.text((_MARGIN, top + 24), row.label[1], _FAINT, small)
        for column, (cell, picture) in enumerate(zip(row.cells, images, strict=True)):
            left = _MARGIN + _LABEL + column * (width + _GAP)
            _paste(sheet, draw, picture, (left, top, left + width, top + _CELL_HEIGHT))
            if cell.is_query:
                draw.rectangle((left - 2, top - 2, left + width + 1, top + _CELL_HEIGHT + 1), outline=_QUERY, width=2)
            draw.text((left, top + _CELL_HEIGHT + 2), cell.caption, _QUERY if cell.is_query else _FAINT, small)
    return sheet


def _cell_width(pictures: Sequence[Image.Image]) -> int:
    """Room for the usual shape of the images."""
    ratio = float(np.median([picture.width / picture.height for picture in pictures])) if pictures else 0.5
    return int(np.clip(round(_CELL_HEIGHT * ratio), *_CELL_WIDTHS))


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


def _fit(picture: Image.Image, room: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image when it fills a room (W, H), its shape kept."""
    scale = min(room[0] / picture.width, room[1] / picture.height)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _read(path: Path) -> Image.Image | None:
    """An image as training sees it, no larger than the widest cell; nothing if it cannot be read."""
    try:
        with open_image(path) as image:
            return resize_image(image, _fit(image, (_CELL_WIDTHS[1], _CELL_HEIGHT)))
    # Pillow's decoders raise many kinds of errors on damaged files; each means the same here.
    except Exception:
        return None
