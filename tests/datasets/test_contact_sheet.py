from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import ReIDDataset, load_dataset, write_contact_sheet
from reidkit.datasets.contact_sheet import _over_cameras, _sample
from reidkit.errors import DataError
from tests.datasets.test_images import corrupt_images


def sample(dataset: ReIDDataset, rows: int, columns: int) -> list[tuple[str, list[tuple[str, bool]]]]:
    drawn = _sample(dataset, rows, columns, np.random.default_rng(0))
    return [(row.label[0], [(cell.path.name, cell.is_query) for cell in row.cells]) for row in drawn]


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
