import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.reporting.gallery import make_gallery, make_thumbnail
from reidkit.reporting.run import Clustering
from tests.reporting.folders import make_images


def _decode(source: str) -> Image.Image:
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(data, validate=True)))


def _clustering(labels: list[int]) -> Clustering:
    """Labels of images that do not exist: the gallery is chosen all the same."""
    return Clustering(1, np.array(labels, dtype=np.int64), [f"/gone/{index}.jpg" for index in range(len(labels))])


def test_the_largest_clusters_come_first() -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(2, 22))
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(20), sizes)).tolist()
    gallery = make_gallery(_clustering([*labels, -1]))
    expected = sorted(((-size, label) for label, size in enumerate(sizes.tolist())))[:12]
    assert [(tile.title, tile.size) for tile in gallery.clusters] == [(f"Cluster {k}", -size) for size, k in expected]
    assert [len(tile.thumbnails) for tile in gallery.clusters] == [min(-size, 10) for size, _ in expected]
    for (_, label), tile in zip(expected, gallery.clusters, strict=True):
        assert {labels[int(picture.name.removesuffix(".jpg"))] for picture in tile.thumbnails} == {label}
    assert gallery.noise is not None
    assert [picture.name for picture in gallery.noise.thumbnails] == [f"{len(labels)}.jpg"]


def test_equal_clusters_keep_their_order() -> None:
    gallery = make_gallery(_clustering([2, 2, 0, 0, 1, 1]))
    assert [tile.title for tile in gallery.clusters] == ["Cluster 0", "Cluster 1", "Cluster 2"]
    assert gallery.noise is None


def test_images_are_taken_from_the_whole_cluster() -> None:
    gallery = make_gallery(_clustering([0] * 91 + [-1] * 39))
    (tile,) = gallery.clusters
    assert [picture.name for picture in tile.thumbnails] == [f"{index}.jpg" for index in range(0, 91, 10)]
    assert gallery.noise is not None
    assert gallery.noise.size == 39
    assert [picture.name for picture in gallery.noise.thumbnails] == [f"{91 + index}.jpg" for index in range(0, 39, 2)]


def test_all_noise_has_no_clusters() -> None:
    gallery = make_gallery(_clustering([-1] * 5))
    assert gallery.clusters == []
    assert gallery.noise is not None
    assert len(gallery.thumbnails) == 5


def test_thumbnails_show_the_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (128, 256), (200, 30, 40))
    image.paste((20, 60, 220), (0, 128, 128, 256))
    image.save(tmp_path / "0001_c1.png")
    thumbnail = make_thumbnail(tmp_path / "0001_c1.png")
    assert (thumbnail.name, thumbnail.problem) == ("0001_c1.png", "")
    picture = _decode(thumbnail.source)
    assert picture.size == (80, 160)
    pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[40, 40] - [200, 30, 40]).max() < 12
    assert np.abs(pixels[120, 40] - [20, 60, 220]).max() < 12


@pytest.mark.parametrize(
    ("size", "shown"), [((24, 48), (24, 48)), ((640, 480), (96, 72)), ((1000, 10), (96, 1)), ((3000, 6000), (80, 160))]
)
def test_thumbnails_keep_the_shape_and_are_never_enlarged(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    Image.new("RGB", size).save(tmp_path / "a.jpg")
    assert _decode(make_thumbnail(tmp_path / "a.jpg").source).size == shown


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_images_of_any_mode_are_shown(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (30, 60)).save(path)
    assert _decode(make_thumbnail(path).source).mode == "RGB"


def test_images_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    (whole,) = make_images(tmp_path, ["whole.png"], (200, 200))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:60])
    names = ["none.jpg", "whole.png/below.jpg", "text.jpg", "cut.png", "", "\0.jpg", 300 * "x"]
    assert [make_thumbnail(tmp_path / name).problem for name in names] == ["gone"] * 2 + ["unreadable"] * 5
    assert not any(make_thumbnail(tmp_path / name).source for name in names)
