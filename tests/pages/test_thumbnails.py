import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.pages.thumbnails import Album
from tests.reporting.folders import make_images


def _decode(source: str) -> Image.Image:
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(data, validate=True)))


def test_thumbnails_show_the_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (128, 256), (200, 30, 40))
    image.paste((20, 60, 220), (0, 128, 128, 256))
    image.save(tmp_path / "0001_c1.png")
    thumbnail = Album().add(tmp_path / "0001_c1.png")
    assert (thumbnail.name, thumbnail.problem) == ("0001_c1.png", "")
    picture = _decode(thumbnail.source)
    assert picture.size == (68, 136)
    pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[34, 34] - [200, 30, 40]).max() < 12
    assert np.abs(pixels[102, 34] - [20, 60, 220]).max() < 12


@pytest.mark.parametrize(
    ("size", "shown"), [((24, 48), (24, 48)), ((640, 480), (80, 60)), ((1000, 10), (80, 1)), ((3000, 6000), (68, 136))]
)
def test_thumbnails_keep_the_shape_and_are_never_enlarged(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    Image.new("RGB", size).save(tmp_path / "a.jpg")
    assert _decode(Album().add(tmp_path / "a.jpg").source).size == shown


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_images_of_any_mode_are_shown(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (30, 60)).save(path)
    assert _decode(Album().add(path).source).mode == "RGB"


def test_images_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    (whole,) = make_images(tmp_path, ["whole.png"], (200, 200))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:60])
    names = ["none.jpg", "whole.png/below.jpg", "text.jpg", "cut.png", "", "\0.jpg", 300 * "x"]
    assert [Album().add(tmp_path / name).problem for name in names] == ["gone"] * 2 + ["unreadable"] * 5
    assert not any(Album().add(tmp_path / name).source for name in names)


def test_an_image_is_read_once_and_absent_ones_are_counted_once(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, ["a.png"])
    album = Album()
    assert album.empty
    first = album.add(path)
    path.unlink()
    assert album.add_all([path, str(path)]) == [first, first]
    assert album.absent == ""
    for _ in range(2):
        album.add(tmp_path / "gone.png")
    assert album.absent == "1 of 2 images cannot be shown: 1 no longer where the run found them."
    assert not album.empty
