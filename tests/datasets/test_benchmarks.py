from pathlib import Path

import numpy as np
import pytest

from reidkit.datasets import CATALOG, ReIDDataset, load_dataset
from reidkit.datasets.vehicleid import load_vehicleid
from reidkit.errors import DataError

MARKET = ("bounding_box_train", "query", "bounding_box_test")
Rows = list[tuple[str, int, int]]


def lay(root: Path, files: dict[str, list[str]]) -> Path:
    """A miniature of a set: empty files by folder, and beside them what archives and systems leave behind."""
    for folder, names in files.items():
        (root / folder / "__MACOSX").mkdir(parents=True)
        for name in [*names, "Thumbs.db", "notes.txt", f"._{names[0]}"]:
            (root / folder / name).write_bytes(b"")
    return root


def rows(dataset: ReIDDataset) -> list[Rows]:
    """(file name, identity, camera) of every image of the three splits."""
    return [
        [(path.name, int(identity), int(camera)) for path, identity, camera in zip(*columns, strict=True)]
        for split in (dataset.train, dataset.query, dataset.gallery)
        for columns in [(split.paths, split.identities, split.cameras)]
    ]


def test_duke(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, query = ["0005_c8_f0046182.jpg", "0001_c2_f0046182.JPG"], ["0007_c1_f0000001.jpg"]
    gallery = ["-1_c1_f0000001.jpg", "0000_c2_f0000001.jpg", "0007_c3_f0000001.jpg"]
    lay(tmp_path / "DukeMTMC-reID", dict(zip(MARKET, (train, query, gallery), strict=True)))
    dataset = load_dataset("duke", tmp_path)
    assert rows(dataset) == [
        [("0001_c2_f0046182.JPG", 0, 1), ("0005_c8_f0046182.jpg", 1, 7)],
        [("0007_c1_f0000001.jpg", 7, 0)],
        [("0000_c2_f0000001.jpg", 0, 1), ("0007_c3_f0000001.jpg", 7, 2)],
    ]
    assert "withdrawn by its authors" in caplog.text
    assert "withdrawn" in dataset.version


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk03(tmp_path: Path, boxes: str) -> None:
    for kind, number in (("labeled", 1), ("detected", 2)):
        files = dict(zip(MARKET, (["0003_c1_1.png"], [f"000{number}_c1_2.png"], ["0001_c2_3.PNG"]), strict=True))
        lay(tmp_path / "cuhk03" / "cuhk03-np" / kind, files)
    dataset = load_dataset(f"cuhk03-{boxes}", tmp_path)
    number = {"labeled": 1, "detected": 2}[boxes]
    assert rows(dataset) == [
        [("0003_c1_1.png", 0, 0)],
        [(f"000{number}_c1_2.png", number, 0)],
        [("0001_c2_3.PNG", 1, 1)],
    ]
    assert dataset.version == f"CUHK03-NP, {boxes} boxes"


def test_personx_cameras_are_renumbered_and_other_releases_refused(tmp_path: Path) -> None:
    train = [f"0001_c{camera}s1_33.jpg" for camera in (3, 4, 8, 10, 11, 12)]
    root = lay(
        tmp_path / "PersonX" / "subset1",
        dict(zip(MARKET, (train, ["0002_c12s1_1.jpg"], ["0002_c3s1_1.jpg"]), strict=True)),
    )
    dataset = load_dataset("personx", tmp_path)
    assert {name: camera for name, _, camera in rows(dataset)[0]} == dict(zip(train, range(6), strict=True))
    assert [split[0][2] for split in rows(dataset)[1:]] == [5, 0]
    (root / "query" / "0002_c1s1_2.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"images of camera 1, but PersonX subset 1 has the cameras 3, 4, 8, 10, 11, 12"
    ):
        load_dataset("personx", tmp_path)


def test_veri(tmp_path: Path) -> None:
    root = lay(
        tmp_path / "VeRi",
        {
            "image_train": ["0009_c020_00030600_0.jpg", "0001_c001_00016450_0.jpg"],
            "image_query": ["0002_c002_00030600_0.jpg"],
            "image_test": ["0002_c013_00030600_0.jpg"],
        },
    )
    (root / "name_train.txt").write_text("0777_c001_00016450_0.jpg\n")  # the folders decide, not this list
    expected = [
        [("0001_c001_00016450_0.jpg", 0, 0), ("0009_c020_00030600_0.jpg", 1, 19)],
        [("0002_c002_00030600_0.jpg", 2, 1)],
        [("0002_c013_00030600_0.jpg", 2, 12)],
    ]
    assert rows(load_dataset("veri", tmp_path)) == rows(load_dataset(str(root))) == expected


def vehicleid(root: Path) -> Path:
    lay(root, {"image": [f"{number:07}.{'JPG' if number % 2 else 'jpg'}" for number in range(12)]})
    (root / "train_test_split").mkdir()
    (root / "train_test_split" / "train_list.txt").write_text("0000000 30\n0000001 4\n0000002 30\n")
    test = "\n".join(f"{number:07} {number // 3}" for number in range(3, 11))
    for size in (800, 1600, 2400):
        (root / "train_test_split" / f"test_list_{size}.txt").write_text(test)
    return root


@pytest.mark.parametrize("size", [800, 1600, 2400])
def test_vehicleid(tmp_path: Path, size: int) -> None:
    vehicleid(tmp_path / "VehicleID_V1.0")
    dataset = load_dataset(f"vehicleid-{size}", tmp_path)
    train, query, gallery = rows(dataset)
    assert train == [("0000000.jpg", 1, -1), ("0000001.JPG", 0, -1), ("0000002.jpg", 1, -1)]
    assert [identity for _, identity, _ in gallery] == [1, 2, 3]  # one image each
    assert sorted(query + gallery) == [
        (f"{number:07}.{'JPG' if number % 2 else 'jpg'}", number // 3, -1) for number in range(3, 11)
    ]
    assert f"test list of {size:,}" in dataset.version
    assert rows(load_dataset(f"vehicleid-{size}", tmp_path)) == [train, query, gallery]


def test_vehicleid_has_ten_random_galleries(tmp_path: Path) -> None:
    dataset = load_vehicleid(vehicleid(tmp_path), "v").without_cameras()
    query, gallery = dataset.query, dataset.gallery
    assert query.draws is not None
    assert gallery.draws is not None
    draws = np.concatenate([query.draws, gallery.draws])
    identities = np.concatenate([query.identities, gallery.identities])
    assert draws.shape == (8, 10)
    assert not query.draws[:, 0].any()  # the splits are those of the first
    assert gallery.draws[:, 0].all()
    for draw in draws.T:
        assert sorted(identities[draw].tolist()) == [1, 2, 3]
    assert len({tuple(draw.tolist()) for draw in draws.T}) > 1
    kept = np.arange(len(query)) % 2 == 0
    np.testing.assert_array_equal(query.subset(kept).draws, query.draws[kept])
    assert dataset.train.draws is None


def test_vehicleid_lists_that_disagree_with_the_folder(tmp_path: Path) -> None:
    root = vehicleid(tmp_path)
    (root / "image" / "0000001.JPG").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 images that .*train_list.txt names do not exist, for instance 0000001"
    ):
        load_vehicleid(root, "v")
    (root / "train_test_split" / "train_list.txt").write_text("0000000\n")
    with pytest.raises(DataError, match=r"train_list.txt, line 1: '0000000' is not of the form '0000001 2343'"):
        load_vehicleid(root, "v")
    (root / "image").rename(root / "pictures")
    with pytest.raises(DataError, match="image does not exist"):
        load_vehicleid(root, "v")


def test_luperson_and_plain_folders_are_unlabelled_training_images(tmp_path: Path) -> None:
    root = lay(tmp_path / "LUPerson", {"images": ["b.jpg", "0001_c1s1_1.JPEG"], "images/more/deep": ["a.png"]})
    expected: list[Rows] = [[("0001_c1s1_1.JPEG", -1, -1), ("b.jpg", -1, -1), ("a.png", -1, -1)], [], []]
    for dataset in (load_dataset("luperson", tmp_path), load_dataset(str(root))):
        assert rows(dataset) == expected
        assert dataset.train.identity_count == dataset.query.camera_count == 0
    lay(root, {"images/.cache": ["c.jpg"]})
    assert rows(load_dataset("LUPerson", tmp_path)) == expected


def test_the_catalog_finds_every_set_where_it_says_to_put_it(tmp_path: Path) -> None:
    for entry in CATALOG.values():
        with pytest.raises(DataError, match=f"Put it into {tmp_path / entry.folders[0]}"):
            load_dataset(entry.name, tmp_path)
        assert all(name == name.lower() for name in entry.folders)
