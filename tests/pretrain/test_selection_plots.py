import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.errors import DataError
from reidkit.pretrain import Selection, describe_selection, rank_images, write_selection_plots

SIZE = (32, 16)


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    """Sixty images, darker where the score is lower; one is unreadable."""
    names = [f"{number:02d}.png" for number in range(60)]
    for number, name in enumerate(names):
        Image.new("RGB", (16, 32), (4 * number,) * 3).save(tmp_path / name)
    scores = np.linspace(-0.5, 0.9, 60, dtype=np.float32)
    scores[7] = np.nan
    return rank_images(names, scores, keep=0.25)


def shades(picture: Path) -> list[int]:
    """Grey values of the thumbnails in a sheet, one per cell."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    cells = [row[0] for row in pixels.reshape(-1, 1, 3) if row[0].min() == row[0].max() and row[0][0] % 4 == 0]
    values, counts = np.unique(np.array(cells)[:, 0], return_counts=True)
    return sorted(values[(counts > 1000) & (values < 240)].tolist())


def test_a_selection_in_one_line(selection: Selection) -> None:
    assert describe_selection(selection) == "Kept 15 of 60 images, cut at 0.5678; 1 unreadable"
    assert describe_selection(rank_images(["a", "b"], np.array([1, 0], np.float32), keep=1.0)).endswith("cut at 0.0000")


@pytest.mark.parametrize("direction", ["high", "low"])
def test_the_sheets_show_both_ends_whatever_is_kept(tmp_path: Path, selection: Selection, direction: str) -> None:
    ranked = rank_images(selection.names, selection.scores, keep=0.25, direction=direction)  # type: ignore[arg-type]
    write_selection_plots(ranked, tmp_path, tmp_path / "plots", image_size=SIZE)
    assert shades(tmp_path / "plots" / "highest.png") == [4 * number for number in range(20, 60)]
    assert shades(tmp_path / "plots" / "lowest.png") == [4 * number for number in range(41) if number != 7]


def test_the_histogram_counts_every_readable_image(tmp_path: Path, selection: Selection) -> None:
    write_selection_plots(selection, tmp_path, tmp_path / "plots", image_size=SIZE)
    page = (tmp_path / "plots" / "scores.html").read_text(encoding="utf-8")
    counts = {key: sum(map(int, re.findall(rf": (\d+) {key}</title>", page))) for key in ("kept", "left out")}
    assert counts == {"kept": 15, "left out": 44}
    assert describe_selection(selection) in page


def test_plots_that_cannot_be_written(tmp_path: Path, selection: Selection) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"could not be written to .*file: .*; name another folder by --plots"):
        write_selection_plots(selection, tmp_path, tmp_path / "file", image_size=SIZE)
