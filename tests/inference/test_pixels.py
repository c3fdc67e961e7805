"""Images in every form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidkit.datasets import decode_images
from reidkit.errors import DataError
from reidkit.inference.pixels import printable, read_pixels

SIZE = (32, 16)


def test_every_form_of_an_image_gives_the_pixels_of_training(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 30, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    expected = decode_images([path], SIZE).pixels[0]
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for picture in (path, str(path), Image.fromarray(array), array, tensor, tensor.double() / 255):
        np.testing.assert_array_equal(read_pixels(picture, SIZE), expected)
    np.testing.assert_array_equal(read_pixels(array[:, ::-1], SIZE), read_pixels(array[:, ::-1].copy(), SIZE))


def test_transparent_parts_are_as_in_files(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (50, 30, 4), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = decode_images([tmp_path / "a.png"], SIZE).pixels[0]
    np.testing.assert_array_equal(read_pixels(Image.fromarray(array), SIZE), expected)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 3)), "float64"),
        (torch.zeros(4, 4, 3), "give .3, H, W"),
        (torch.full((3, 4, 4), 2.0), "values from 2 to 2"),
        (torch.full((3, 4, 4), torch.nan), "values from nan"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
        (Image.new("I", (4, 4)), "mode 'I'"),
    ],
)
def test_what_is_no_image_is_refused(picture: np.ndarray | torch.Tensor | Image.Image, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pixels(picture, SIZE)


def test_unreadable_files_give_a_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    assert isinstance(read_pixels(tmp_path / "bad.jpg", SIZE), str)
    assert isinstance(read_pixels(tmp_path / "absent.jpg", SIZE), str)


def test_names_stay_on_one_line() -> None:
    assert printable("a\nb\x1b[31m'ü'\udcff.jpg") == "a\\nb\\x1b[31m'ü'\\udcff.jpg"
