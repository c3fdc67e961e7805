from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets.market import MARKET_FOLDERS, load_market
from reidkit.errors import DataError


def make(root: Path, **names: list[str]) -> Path:
    """A miniature set; the keys are train, query, gallery."""
    for folder, key in zip(MARKET_FOLDERS, ("train", "query", "gallery"), strict=True):
        (root / folder).mkdir(parents=True)
        for name in names[key]:
            Image.new("RGB", (4, 8), (9, 9, 9)).save(root / folder / name, format="JPEG")
    return root


def test_identities_cameras_and_splits(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        train=["0007_c2s1_000451_03.jpg", "0002_c1s1_000001_00.jpg", "0002_c15s1_000002_00.JPG"],
        query=["0011_c3s1_000001_00.png"],
        gallery=["-1_c1s1_000001_00.jpg", "0000_c1s1_000002_00.jpg", "0011_c1s1_000003_00.jpg"],
    )
    (root / "query" / "Thumbs.db").write_bytes(b"x")
    (root / "query" / "._0011_c3s1_000001_00.png").write_bytes(b"x")
    (root / "bounding_box_test" / "__MACOSX").mkdir()
    dataset = load_market(root, "mini")
    assert [path.name for path in dataset.train.paths] == sorted(path.name for path in dataset.train.paths)
    np.testing.assert_array_equal(dataset.train.identities, [0, 0, 1])  # relabelled from the sorted ids 2, 7
    np.testing.assert_array_equal(dataset.train.cameras, [14, 0, 1])
    np.testing.assert_array_equal(dataset.query.identities, [11])
    np.testing.assert_array_equal(dataset.query.cameras, [2])
    np.testing.assert_array_equal(dataset.gallery.identities, [0, 11])  # junk is dropped, distractors stay
    np.testing.assert_array_equal(dataset.is_person(dataset.gallery.identities), [False, True])
    np.testing.assert_array_equal(dataset.gallery.cameras, [0, 0])
    assert (dataset.train.identity_count, dataset.train.camera_count) == (2, 3)


def test_cameras_counted_from_zero_stay(tmp_path: Path) -> None:
    root = make(tmp_path, train=["1_c0_1.jpg", "1_c1_1.jpg"], query=["2_c0.jpg"], gallery=["2_c1.jpg"])
    np.testing.assert_array_equal(load_market(root, "mini").train.cameras, [0, 1])


def test_names_without_camera_or_identity(tmp_path: Path) -> None:
    root = make(tmp_path, train=["0001_a.jpg", "holiday.jpg"], query=["0002_a.jpg"], gallery=["0002_b.jpg"])
    dataset = load_market(root, "mini")
    np.testing.assert_array_equal(dataset.train.identities, [0, -1])
    np.testing.assert_array_equal(dataset.train.cameras, [-1, -1])
    np.testing.assert_array_equal(dataset.query.cameras, [-1])


def test_evaluation_needs_identities(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.jpg"], query=["who.jpg"], gallery=["0002_c1.jpg"])
    with pytest.raises(DataError, match=r"1 files in .*query do not begin with an identity, for instance 'who.jpg'"):
        load_market(root, "mini")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "bounding_box_train").mkdir()
    with pytest.raises(DataError, match="bounding_box_train holds no images"):
        load_market(tmp_path, "mini")
    with pytest.raises(DataError, match="nothere/bounding_box_train does not exist"):
        load_market(tmp_path / "nothere", "mini")


def test_training_images_alone_are_an_unlabelled_set(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.jpg", "b.jpg"], query=[], gallery=[])
    (root / "query").rmdir()
    with pytest.raises(DataError, match="query does not exist"):
        load_market(root, "mini")
    (root / "bounding_box_test").rmdir()
    dataset = load_market(root, "mini")
    assert [len(split) for split in (dataset.train, dataset.query, dataset.gallery)] == [2, 0, 0]


def test_without_cameras(tmp_path: Path) -> None:
    root = make(tmp_path, train=["1_c1.jpg"], query=["2_c1.jpg"], gallery=["2_c2.jpg"])
    dataset = load_market(root, "mini").without_cameras()
    assert dataset.train.cameras.tolist() == dataset.query.cameras.tolist() == dataset.gallery.cameras.tolist() == [-1]
