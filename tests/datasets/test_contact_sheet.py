from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets import (
    ReIDDataset,
    SheetImage,
    SheetRow,
    draw_clusters,
    draw_contact_sheet,
    load_dataset,
    write_contact_sheet,
)
from reidkit.datasets.contact_sheet import _over_cameras, _sample
from reidkit.errors import DataError
from tests.datasets.test_decoding import corrupt_images

MARGIN, LABEL, CAPTION, GAP = 16, 96, 18, 6
"""Pixels of a sheet around its cells."""
HEIGHT, WIDTH = 96, 48
"""Pixels of a cell of `draw_clusters` when images are twice as high as wide."""


def sample(dataset: ReIDDataset, rows: int, columns: int) -> list[tuple[str, list[tuple[str, bool]]]]:
    drawn = _sample(dataset, rows, columns, np.random.default_rng(0))
    return [(label, [(cell.path.name, cell.is_query) for cell in images]) for (label, _), images in drawn]


def test_rows_are_identities_of_training_and_test(people: Path) -> None:
    dataset = load_dataset(str(people))
    drawn = sample(dataset, 6, 5)
    originals = dataset.train.originals
    assert originals is not None
    for number, (label, cells) in enumerate(drawn):
        identity = int(label.removeprefix("id "))
        assert {int(name[:4]) for name, _ in cells} == {identity}
        assert (identity in originals) == (number < 4)
        assert any(is_query for _, is_query in cells) == (number >= 4)
        assert len(cells) == 5
        cameras = [name.split("_c")[1][0] for name, _ in cells]
        assert cameras == sorted(cameras)
        assert len(set(cameras)) == 3


def test_few_images_leave_no_hole(people: Path) -> None:
    drawn = sample(load_dataset(str(people)), 100, 100)
    assert len(drawn) == 8 + 4
    assert [len(cells) for label, cells in drawn if int(label.removeprefix("id ")) <= 8] == [6] * 8


def test_images_are_spread_over_the_cameras() -> None:
    cameras = np.array([0] * 20 + [3] + [5] * 9)
    members = np.arange(100, 130)
    chosen = np.array(_over_cameras(members, cameras, 7, np.random.default_rng(0))) - 100
    assert cameras[chosen].tolist() == [0, 0, 0, 3, 5, 5, 5]
    assert len(set(chosen.tolist())) == 7


def test_the_picture_shows_the_images_and_marks_damage(people: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(people))
    write_contact_sheet(dataset, tmp_path / "deep" / "a.png")
    write_contact_sheet(dataset, tmp_path / "b.png")
    assert (tmp_path / "deep" / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_contact_sheet(dataset, tmp_path / "c.png", rows=3, seed=1)
    write_contact_sheet(dataset, tmp_path / "b.png", rows=3)
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (30, 60), "#ff0000").save(pictures / "a.png")
    Image.new("RGB", (30, 60), "#00ff00").save(pictures / "b.png")
    (pictures / "c.png").write_bytes(b"damaged")
    write_contact_sheet(load_dataset(str(pictures)), tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as sheet:
        counts = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    assert counts[(255, 0, 0)] == counts[(0, 255, 0)] == 64 * 128
    assert counts[(216, 222, 228)] > 64 * 128 * 0.9


def test_the_picture_shows_what_training_sees(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    lost, read = corrupt_images(pictures)
    Image.new("RGBA", (40, 80), (0, 0, 0, 0)).save(pictures / "transparent.png")
    write_contact_sheet(load_dataset(str(pictures)), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        counts = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    cell = 64 * 128
    assert counts[(156, 156, 156)] >= cell  # 16 bits are scaled, not clipped to white
    assert counts[(0, 0, 0)] < cell  # transparent parts lie on white
    assert counts[(255, 0, 0)] == 64  # 30,000 x 1, fitted in
    assert counts[(216, 222, 228)] > len(lost) * cell * 0.9
    assert len(read) == 4


def test_what_cannot_be_written_is_named(people: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(people))
    with pytest.raises(DataError, match=r"a contact sheet is a \.png or \.jpg picture, not 'sheet'"):
        write_contact_sheet(dataset, tmp_path / "sheet")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"sheet\.png cannot be written"):
        write_contact_sheet(dataset, tmp_path / "file" / "sheet.png")


def numbered(count: int) -> NDArray[np.uint8]:
    """Images (count, 3, 32, 16) of one colour each; the red is the image's number."""
    pixels = np.zeros((count, 3, 32, 16), np.uint8)
    pixels[:, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
    pixels[:, 2] = 200
    return pixels


def shown(sheet: Image.Image) -> list[list[int]]:
    """The numbers of the images on the sheet, row by row."""
    picture = np.asarray(sheet)
    tops = range(MARGIN + HEIGHT // 2, picture.shape[0], HEIGHT + CAPTION + GAP)
    lefts = range(MARGIN + LABEL + WIDTH // 2, picture.shape[1], WIDTH + GAP)
    middles = [[picture[top, left] for left in lefts] for top in tops]
    return [[int(red) for red, _, blue in row if blue == 200] for row in middles]


def test_rows_are_clusters_and_the_largest_is_above() -> None:
    labels = np.array([1, -1, 0, 1, 1, 0, 2, -1])
    assert shown(draw_clusters(labels, numbered(8))) == [[0, 3, 4], [2, 5], [6]]


def test_of_many_clusters_and_images_some_at_even_distances_are_shown() -> None:
    sizes = np.arange(21, 0, -1)  # 21 clusters of 21, 20, ..., 1 images
    labels = np.repeat(np.arange(21), sizes)
    rows = shown(draw_clusters(labels, numbered(len(labels))))
    assert len(rows) == 10
    clusters = [[int(labels[image]) for image in row] for row in rows]
    assert all(len(set(row)) == 1 for row in clusters)
    assert [row[0] for row in clusters] == [0, 2, 4, 7, 9, 11, 13, 16, 18, 20]
    assert rows[0] == [0, 2, 4, 7, 9, 11, 13, 16, 18, 20]
    assert [len(row) for row in rows] == [10, 10, 10, 10, 10, 10, 8, 5, 3, 1]


def test_wide_and_narrow_images_have_one_height() -> None:
    labels = np.zeros(3, np.int64)
    for height, width, expected in ((64, 64, 96), (10, 200, 192), (200, 10, 32)):
        sheet = draw_clusters(labels, np.zeros((3, 3, height, width), np.uint8))
        assert sheet.size == (2 * MARGIN + LABEL + 3 * expected + 2 * GAP, 2 * MARGIN + HEIGHT + CAPTION)


def test_a_sheet_without_labels_and_title_is_its_cells() -> None:
    blue, red = Image.new("RGB", (20, 40), "#0000ff"), Image.new("RGB", (20, 40), "#ff0000")
    rows = [
        SheetRow([SheetImage(blue, "#1\n0.9", "#0072b2"), SheetImage(red, "#2\n0.8")]),
        SheetRow([SheetImage(None)]),
    ]
    sheet = draw_contact_sheet(rows, height=80, widths=(30, 60))
    assert sheet.size == (2 * MARGIN + 2 * 40 + GAP, 2 * MARGIN + 2 * (80 + CAPTION + 15) + GAP)
    counts = {colour: count for count, colour in sheet.getcolors(1 << 16) or []}
    assert counts[(0, 0, 255)] == counts[(255, 0, 0)] == 40 * 80
    assert counts[(216, 222, 228)] > 40 * 80 * 0.9
    assert sheet.getpixel((MARGIN - 1, MARGIN - 1)) == (0x00, 0x72, 0xB2)  # the frame
    assert sheet.getpixel((MARGIN + 40 + GAP - 1, MARGIN - 1)) == (255, 255, 255)
    titled = draw_contact_sheet(rows, "title", height=80, widths=(30, 60))
    assert titled.height == sheet.height + 34
    np.testing.assert_array_equal(np.asarray(titled)[MARGIN + 34 :], np.asarray(sheet)[MARGIN:])
