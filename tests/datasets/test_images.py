import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import decode_images
from reidkit.datasets.images import image_files
from reidkit.errors import DataError


def noise_image(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 40)) -> Path:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_pixels_are_pillows_bicubic(tmp_path: Path) -> None:
    path = noise_image(tmp_path / "a.png")
    images = decode_images([path], (16, 8))
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((8, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(images.pixels[0], expected.transpose(2, 0, 1))
    assert images.pixels.dtype == np.uint8


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    pixels = decode_images([noise_image(tmp_path / "a.png", "L")], (8, 8)).pixels[0]
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_unreadable_images_are_named_and_left_out(tmp_path: Path) -> None:
    good = noise_image(tmp_path / "good.jpg")
    truncated = tmp_path / "truncated.jpg"
    truncated.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    paths = [text, good, truncated, tmp_path / "absent.jpg"]
    images = decode_images(paths, (8, 8))
    np.testing.assert_array_equal(images.readable, [False, True, False, False])
    assert [problem.split(": ")[0] for problem in images.problems] == [str(text), str(truncated), str(paths[3])]
    assert images.pixels[1].any()


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    good = noise_image(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"unreadable image .*bad.jpg.*without --strict"):
        decode_images([good, tmp_path / "bad.jpg"], (8, 8), strict=True)


def test_no_readable_image_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 2 images is readable"):
        decode_images([tmp_path / "a.jpg", tmp_path / "b.jpg"], (8, 8))


def test_threads_change_nothing_and_progress_ends_at_the_total(tmp_path: Path) -> None:
    paths = [noise_image(tmp_path / f"{index}.png", size=(10 + index, 20)) for index in range(6)]
    seen: list[tuple[int, int]] = []
    one = decode_images(paths, (8, 8), workers=1, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(one.pixels, decode_images(paths, (8, 8), workers=4).pixels)
    assert seen[-1] == (6, 6)


def test_only_images_are_listed(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.jpeg", "d.bmp", ".hidden.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in image_files(tmp_path)] == ["a.PNG", "b.jpg", "c.jpeg", "d.bmp"]


def test_the_log_stays_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        decode_images([noise_image(tmp_path / "a.png")], (8, 8))
    assert not [record for record in caplog.records if record.name.startswith("reidkit")]
