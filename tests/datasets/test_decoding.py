import io
import logging
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets import decode_images
from reidkit.datasets.decoding import iterate_images
from reidkit.errors import DataError


class Corrupt(NamedTuple):
    """Files that are not what their names say."""

    lost: list[Path]
    """Those that have no pixels."""
    read: list[Path]
    """Those that are brought to 8-bit RGB."""


def corrupt_images(folder: Path, prefix: str = "") -> Corrupt:
    """The nine kinds that every real crawl has a few in a thousand of."""
    whole = noise_image(folder / f"{prefix}whole.jpg", size=(40, 80))
    lost = [folder / f"{prefix}{name}" for name in ("truncated.jpg", "empty.jpg", "text.jpg", "link.jpg", "bomb.png")]
    truncated, empty, text, link, bomb = lost
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    empty.touch()
    text.write_text("<html>not found</html>")
    link.symlink_to(folder / "nowhere.jpg")
    png_header(bomb, 60_000, 60_000)
    read = [folder / f"{prefix}{name}" for name in ("sixteen.png", "palette.png", "cmyk.jpg", "thin.png")]
    sixteen, palette, cmyk, thin = read
    saved(sixteen, np.full((40, 20), 40_000, np.uint16))
    with Image.open(whole) as image:
        image.convert("P").save(palette)
        image.convert("CMYK").save(cmyk)
    Image.new("RGB", (30_000, 1), "red").save(thin)
    whole.unlink()
    return Corrupt(lost, read)


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


def test_the_log_stays_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        decode_images([noise_image(tmp_path / "a.png")], (8, 8))
    assert not [record for record in caplog.records if record.name.startswith("reidkit")]


def decoded(path: Path, size: tuple[int, int] = (4, 4)) -> NDArray[np.uint8]:
    """The only image of a file, (H, W, 3)."""
    (pixels,) = decode_images([path], size, strict=True).pixels
    return np.asarray(pixels.transpose(1, 2, 0), dtype=np.uint8)


def reason(path: Path) -> str:
    (result,) = iterate_images([path], (4, 4), 1)
    assert isinstance(result, str)
    return result


def saved(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises a size and whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


class ManyPaths(Sequence[Path]):
    """One file, millions of times; remembers how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.furthest = 0

    def __len__(self) -> int:
        return 4_000_000

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, int):
            return self.path
        self.furthest = max(self.furthest, index.stop)
        return [self.path] * len(range(*index.indices(len(self))))


@pytest.mark.parametrize("workers", [1, 3, 300])
def test_millions_of_paths_cost_nothing(tmp_path: Path, workers: int) -> None:
    paths = ManyPaths(noise_image(tmp_path / "a.png"))
    images = iterate_images(paths, (8, 8), workers)
    for _ in range(40):
        assert not isinstance(next(images), str)
    assert paths.furthest <= 40 + max(256, 2 * workers) + 16
    images.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_what_is_no_image_is_unreadable_and_says_why(tmp_path: Path) -> None:
    whole = noise_image(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is a text, not an image")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {path.stem: reason(path) for path in tmp_path.iterdir() if path.stem != "whole"}
    assert "truncated" in reasons.pop("truncated")
    assert reasons == {
        "empty": "empty, damaged, or not an image of a known format",
        "text": "empty, damaged, or not an image of a known format",
        "broken": "FileNotFoundError: No such file or directory",
        "loop": "OSError: Too many levels of symbolic links",
        "folder": "OSError: a folder or a device, not a file",
        "pipe": "OSError: a folder or a device, not a file",
    }


def test_the_nine_kinds_are_handled_as_documented(tmp_path: Path) -> None:
    lost, read = corrupt_images(tmp_path)
    images = decode_images([*read, *lost], (4, 4))
    assert images.readable.tolist() == [True] * 4 + [False] * 5
    sixteen, palette, cmyk, thin = images.pixels[:4]
    assert (sixteen == round(40_000 / 257)).all()
    assert np.abs(palette.astype(int) - cmyk).max() < 40  # the same picture, in few colours
    assert (thin == np.array([255, 0, 0])[:, None, None]).all()
    for path, problem, words in zip(
        lost, images.problems, ("truncated", "empty", "not an image", "No such file", "178956970"), strict=True
    ):
        assert problem.startswith(f"{path}: ")
        assert words in problem


def test_decompression_bombs_are_unreadable(tmp_path: Path) -> None:
    bomb = png_header(tmp_path / "bomb.png", 20_000, 20_000)
    assert reason(bomb).startswith("DecompressionBombError: Image size (400000000 pixels) exceeds limit of 178956970")


def test_long_and_thin_images_are_resized(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 30_000).astype(np.uint8)[None], 3, axis=0).T[None]
    pixels = decoded(saved(tmp_path / "thin.png", np.ascontiguousarray(ramp)), (8, 5))
    np.testing.assert_allclose(pixels[:, :, 0], np.tile([25, 76, 127, 178, 230], (8, 1)), atol=3)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.repeat(np.array([0, 257 * 10, 257 * 128 + 100, 65535], dtype=np.uint16)[None], 4, axis=0)
    path = saved(tmp_path / "a.png", grey)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    np.testing.assert_array_equal(decoded(path)[0, :, 1], [0, 10, 128, 255])
    integers = saved(tmp_path / "i.tiff", grey.astype(np.int32) * 2 - 100)
    np.testing.assert_array_equal(decoded(integers)[0, :, 0], [0, 20, 255, 255])


def test_floats_are_taken_by_their_range(tmp_path: Path) -> None:
    unit = np.repeat(np.array([0, 0.5, 1, np.nan], dtype=np.float32)[None], 4, axis=0)
    np.testing.assert_array_equal(decoded(saved(tmp_path / "unit.tiff", unit))[0, :, 0], [0, 128, 255, 0])
    wide = np.repeat(np.array([-5, 100, 255, np.inf], dtype=np.float32)[None], 4, axis=0)
    np.testing.assert_array_equal(decoded(saved(tmp_path / "wide.tiff", wide))[0, :, 0], [0, 100, 255, 255])


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[..., 0], rgba[:2, :, 3], rgba[2, :, 3] = 200, 255, 51
    expected = np.tile(np.array([[200, 0, 0], [200, 0, 0], [244, 204, 204], [255, 255, 255]])[:, None], (1, 4, 1))
    np.testing.assert_array_equal(decoded(saved(tmp_path / "rgba.png", rgba)), expected)
    grey = np.ascontiguousarray(rgba[..., [0, 3]])
    Image.frombytes("LA", (4, 4), grey.tobytes()).save(tmp_path / "la.png")
    np.testing.assert_array_equal(decoded(tmp_path / "la.png")[:, 0, 0], [200, 200, 244, 255])


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00"])
def test_palettes_are_looked_up(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 2, 4, 4))
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "p.png", **options)
    second = [200, 100, 50] if transparency is None else [255, 255, 255]
    np.testing.assert_array_equal(decoded(tmp_path / "p.png")[[0, 3], 0], [[10, 20, 30], second])


def test_cmyk_is_read_as_adobe_writes_it(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    ink.save(tmp_path / "cyan.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "cyan.jpg").read_bytes()
    np.testing.assert_allclose(decoded(tmp_path / "cyan.jpg")[0, 0], [0, 255, 255], atol=4)


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.png", exif=exif)
    assert decoded(tmp_path / "turned.png")[0, 0, 0] > 200


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_the_first_of_several_frames_is_taken(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    np.testing.assert_array_equal(decoded(path)[0, 0], [255, 0, 0])


def test_the_content_tells_the_format_not_the_suffix(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "TIFF")
    (tmp_path / "tiff.jpg").write_bytes(file.getvalue())
    np.testing.assert_array_equal(decoded(tmp_path / "tiff.jpg")[0, 0], [1, 2, 3])
