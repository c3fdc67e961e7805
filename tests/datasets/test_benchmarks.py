import shutil
from pathlib import Path

import numpy as np
import pytest

from reidkit.datasets import CATALOG, ReIDDataset, load_dataset
from reidkit.datasets.vehicleid import load_vehicleid
from reidkit.errors import DataError
from tests.datasets.test_msmt17 import make as make_msmt17

MARKET = ("bounding_box_train", "query", "bounding_box_test")
Rows = list[tuple[str, int, int]]


def lay(root: Path, files: dict[str, list[str]]) -> Path:
    """A miniature of a set: empty files by folder, and beside them what archives and systems leave behind."""
    for folder, names in files.items():
        (root / folder / "__MACOSX").mkdir(parents=True)
        for name in [*names, "Thumbs.db", "notes.txt", f"._{names[0]}"]:
            (root / folder / name).write_bytes(b"")
    return root


def three(*names: list[str]) -> dict[str, list[str]]:
    """Training, query and gallery names in Market-1501's folders."""
    return dict(zip(MARKET, names, strict=True))


PERSONX = [f"0001_c{camera}s1_33.jpg" for camera in (3, 4, 8, 10, 11, 12)]
PLACES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "market": (
        "market1501/Market-1501-v15.09.15",
        three(
            ["0007_c2s1_000451_03.jpg", "0002_c6s1_000001_00.JPG"],
            ["0011_c3s1_000001_00.jpg"],
            ["-1_c1s1_000001_00.jpg", "0000_c1s1_000002_00.jpg", "0011_c1s1_000003_00.jpg"],
        ),
    ),
    "duke": (
        "DukeMTMC-reID",
        three(
            ["0005_c8_f0046182.jpg", "0001_c2_f0046182.JPG"],
            ["0007_c1_f0000001.jpg"],
            ["-1_c1_f0000001.jpg", "0000_c2_f0000001.jpg", "0007_c3_f0000001.jpg"],
        ),
    ),
    **{
        f"cuhk03-{boxes}": (
            f"cuhk03/cuhk03-np/{boxes}",
            three(["0003_c1_1.png"], [f"000{number}_c1_2.png"], ["0001_c2_3.PNG"]),
        )
        for boxes, number in (("labeled", 1), ("detected", 2))
    },
    "personx": ("PersonX/subset1", three(PERSONX, ["0002_c12s1_1.jpg"], ["0002_c3s1_1.jpg"])),
    "veri": (
        "VeRi",
        {
            "image_train": ["0009_c020_00030600_0.jpg", "0001_c001_00016450_0.jpg"],
            "image_query": ["0002_c002_00030600_0.jpg"],
            "image_test": ["0002_c013_00030600_0.jpg"],
        },
    ),
    "luperson": ("LUPerson", {"images": ["b.jpg", "0001_c1s1_1.JPEG"], "images/more/deep": ["a.png"]}),
}
"""Name -> where a set lies below the data root, and its files with their traps; lists name those of the other sets."""


def miniature(name: str, data_root: Path) -> Path:
    """A set of the catalog, where its archive puts it."""
    if name == "msmt17":
        return make_msmt17(data_root / "MSMT17_V1")
    if name.startswith("vehicleid"):
        return vehicleid(data_root / "VehicleID_V1.0")
    place, files = PLACES[name]
    return lay(data_root / place, files)


def rows(dataset: ReIDDataset) -> list[Rows]:
    """(file name, identity, camera) of every image of the three splits."""
    return [
        [(path.name, int(identity), int(camera)) for path, identity, camera in zip(*columns, strict=True)]
        for split in (dataset.train, dataset.query, dataset.gallery)
        for columns in [(split.paths, split.identities, split.cameras)]
    ]


def test_market(tmp_path: Path) -> None:
    miniature("market", tmp_path)
    assert rows(load_dataset("market", tmp_path)) == [
        [("0002_c6s1_000001_00.JPG", 0, 5), ("0007_c2s1_000451_03.jpg", 1, 1)],
        [("0011_c3s1_000001_00.jpg", 11, 2)],
        [("0000_c1s1_000002_00.jpg", 0, 0), ("0011_c1s1_000003_00.jpg", 11, 0)],
    ]


def test_duke(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    miniature("duke", tmp_path)
    dataset = load_dataset("duke", tmp_path)
    assert rows(dataset) == [
        [("0001_c2_f0046182.JPG", 0, 1), ("0005_c8_f0046182.jpg", 1, 7)],
        [("0007_c1_f0000001.jpg", 7, 0)],
        [("0000_c2_f0000001.jpg", 0, 1), ("0007_c3_f0000001.jpg", 7, 2)],
    ]
    assert "withdrawn by its authors" in caplog.text
    assert "withdrawn" in dataset.version
    assert not [text for entry in CATALOG.values() for text in (entry.access, entry.notice) if "://" in text]


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk03(tmp_path: Path, boxes: str) -> None:
    for kind in ("labeled", "detected"):
        miniature(f"cuhk03-{kind}", tmp_path)
    dataset = load_dataset(f"cuhk03-{boxes}", tmp_path)
    number = {"labeled": 1, "detected": 2}[boxes]
    assert rows(dataset) == [
        [("0003_c1_1.png", 0, 0)],
        [(f"000{number}_c1_2.png", number, 0)],
        [("0001_c2_3.PNG", 1, 1)],
    ]
    assert dataset.version == f"CUHK03-NP, {boxes} boxes"


def test_personx_cameras_are_renumbered_and_other_releases_refused(tmp_path: Path) -> None:
    root = miniature("personx", tmp_path)
    dataset = load_dataset("personx", tmp_path)
    assert {name: camera for name, _, camera in rows(dataset)[0]} == dict(zip(PERSONX, range(6), strict=True))
    assert [split[0][2] for split in rows(dataset)[1:]] == [5, 0]
    first = [f"0001_c{camera}s1_33.jpg" for camera in range(1, 7)]  # PersonX_v1 counts its cameras from 1
    lay(tmp_path / "PersonX" / "PersonX_v1", three(first, ["0002_c3s1_1.jpg"], ["0002_c4s1_1.jpg"]))
    with pytest.raises(DataError, match=r"PersonX_v1 has images of camera 1, 2, 5, 6, but PersonX subset 1 has"):
        load_dataset("personx", tmp_path)
    shutil.rmtree(tmp_path / "PersonX" / "PersonX_v1")
    (root / "query" / "0002_c1s1_2.jpg").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"images of camera 1, but PersonX subset 1 has the cameras 3, 4, 8, 10, 11, 12 only: .*keep one",
    ):
        load_dataset("personx", tmp_path)


def test_veri(tmp_path: Path) -> None:
    root = miniature("veri", tmp_path)
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
    miniature(f"vehicleid-{size}", tmp_path)
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
    root = miniature("luperson", tmp_path)
    expected: list[Rows] = [[("0001_c1s1_1.JPEG", -1, -1), ("b.jpg", -1, -1), ("a.png", -1, -1)], [], []]
    for dataset in (load_dataset("luperson", tmp_path), load_dataset(str(root))):
        assert rows(dataset) == expected
        assert dataset.train.identity_count == dataset.query.camera_count == 0
    lay(root, {"images/.cache": ["c.jpg"]})
    assert rows(load_dataset("LUPerson", tmp_path)) == expected


@pytest.mark.parametrize(
    ("name", "train", "cameras", "query", "gallery"),
    [
        ("market", (751, 12_936), 6, (750, 3_368), 2_798 + 13_115),  # 19,732 files less 3,819 of junk
        ("msmt17", (1_041, 32_621), 15, (3_060, 11_659), 82_161),
        ("duke", (702, 16_522), 8, (702, 2_228), 17_661),
        ("cuhk03-detected", (767, 7_365), 2, (700, 1_400), 5_332),
        ("cuhk03-labeled", (767, 7_368), 2, (700, 1_400), 5_328),
        ("personx", (410, 9_840), 6, (856, 5_136), 30_816),
        ("veri", (576, 37_778), 20, (200, 1_678), 11_579),
        ("vehicleid-800", (13_164, 113_346), 0, None, 800),
        ("vehicleid-1600", (13_164, 113_346), 0, None, 1_600),
        ("vehicleid-2400", (13_164, 113_346), 0, None, 2_400),
        ("luperson", (0, 4_180_243), 0, None, None),
    ],
)
def test_published_counts(
    name: str, train: tuple[int, int], cameras: int, query: tuple[int, int] | None, gallery: int | None
) -> None:
    entry = CATALOG[name]
    assert (entry.expected["train"], entry.cameras, entry.expected.get("query")) == (train, cameras, query)
    assert entry.expected.get("gallery", (0, None))[1] == gallery
    assert entry.expected.keys() <= {"train", "query", "gallery"}


def test_the_catalog_finds_every_set_where_it_says_to_put_it(tmp_path: Path) -> None:
    for entry in CATALOG.values():
        with pytest.raises(DataError, match=f"Put it into {tmp_path / entry.folders[0]}"):
            load_dataset(entry.name, tmp_path)
        assert all(name == name.lower() for name in entry.folders)
