import logging
from itertools import product
from pathlib import Path

import pytest

from reidkit.datasets import CATALOG, SYNTHETIC, find_roots, load_dataset, synthetic_config
from reidkit.datasets.benchmarks import DatasetEntry
from reidkit.errors import ConfigError, DataError
from reidkit.synthetic import SyntheticConfig
from tests.datasets.test_market import make
from tests.datasets.test_msmt17 import make as make_msmt17

NAMES = {"train": ["0001_c1_0.jpg"], "query": ["0002_c1_0.jpg"], "gallery": ["0002_c2_0.jpg"]}


def find_root(entry: DatasetEntry, data_root: Path) -> Path | None:
    return next((found.root for found in find_roots(entry, data_root)), None)


@pytest.mark.parametrize(
    "place", ["market1501", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market/a/b", "."]
)
def test_market_is_found_wherever_archives_put_it(tmp_path: Path, place: str) -> None:
    root = make(tmp_path / place, **NAMES)
    found = find_root(CATALOG["market"], tmp_path)
    assert found is not None
    assert found.samefile(root)
    assert load_dataset("market", tmp_path).version == "Market-1501"


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_is_found_under_each_of_its_names_nested_or_not(tmp_path: Path, name: str) -> None:
    entry = CATALOG[name]
    for number, (folder, layout) in enumerate(product(entry.folders, entry.layouts)):
        data_root = tmp_path / str(number)
        root = data_root / folder.upper() / "deep" if number % 2 else data_root / folder.title()
        marker = root / layout.marker
        marker.parent.mkdir(parents=True)
        marker.touch() if marker.suffix else marker.mkdir()
        assert find_root(entry, data_root) == root
        found = root.rename(root.with_name("holds nothing by that name"))
        if root.parent == data_root:
            assert find_root(entry, data_root) is None
            assert layout.shared or find_root(entry, found) == found  # the data root itself


def test_archive_leftovers_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path / "market" / "__MACOSX", **NAMES)
    assert find_root(CATALOG["market"], tmp_path) is None


def test_reorganised_msmt17_loads(tmp_path: Path) -> None:
    make(tmp_path / "msmt17", train=["0000_c15_0.jpg"], query=["0000_c01_0.jpg"], gallery=["0000_c02_0.jpg"])
    dataset = load_dataset("msmt17", tmp_path)
    assert dataset.version == "re-organised, Market-1501 layout"
    assert dataset.train.cameras.tolist() == [14]
    assert not dataset.comparable
    assert dataset.is_person(dataset.gallery.identities).tolist() == [True]  # 0 is no distractor here


def test_what_was_found_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reidkit")
    first = make_msmt17(tmp_path / "one" / "MSMT17_V1")
    load_dataset("msmt17", tmp_path / "one")
    second = make_msmt17(tmp_path / "two" / "msmt17", ("mask_train_v2", "mask_test_v2"))
    load_dataset("msmt17", tmp_path / "two")
    assert caplog.messages == [f"msmt17: V1, train + val, at {first}", f"msmt17: V2, train + val, at {second}"]


def test_folders_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "mine", **NAMES)
    assert load_dataset(str(root)).name == "mine"
    assert load_dataset("mine", tmp_path).root == root
    monkeypatch.setenv("REIDKIT_DATA", str(tmp_path))
    assert load_dataset("mine").root == root


def test_missing_msmt17_says_where_to_ask_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MSMT17 was not found; looked at .*on request by its authors.*Put it into"):
        load_dataset("msmt17", tmp_path / "nowhere")


def test_an_unknown_name_lists_what_exists_and_where_it_looked(tmp_path: Path) -> None:
    make(tmp_path / "zoo", **NAMES)
    with pytest.raises(
        DataError,
        match=r"'markt' \(did you mean 'market'\?\).*synthetic-many-b, market, msmt17.*\(zoo\)",
    ):
        load_dataset("markt", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_dataset("zebra", tmp_path / "nowhere")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"photos holds no images .* holds one of bounding_box_train, list_train\.txt"):
        load_dataset(str(tmp_path / "photos"))
    with pytest.raises(DataError, match=r"notes\.txt is a file, but neither a \.csv nor a \.parquet table"):
        load_dataset("photos/notes.txt", tmp_path)


def test_a_shared_layout_in_the_data_root_is_one_set_only(tmp_path: Path) -> None:
    root = make(tmp_path / "DukeMTMC-reID", **NAMES)
    (root / "images").mkdir()
    assert {name for name, entry in CATALOG.items() if find_root(entry, root)} == {"market", "duke"}
    assert {name for name, entry in CATALOG.items() if find_root(entry, tmp_path)} == {"duke"}


def test_a_set_that_is_not_fully_extracted_says_so(tmp_path: Path) -> None:
    (tmp_path / "MSMT17_V1" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"list_train\.txt or bounding_box_train \(.*MSMT17_V1 holds none: is it fully"):
        load_dataset("msmt17", tmp_path)
    (tmp_path / "luperson" / "lmdb").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds images or data\.mdb \(.*luperson holds none: is it fully"):
        load_dataset("luperson", tmp_path)


def test_synthetic_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path))
    few = SyntheticConfig(
        train_identities=2, test_identities=2, images_per_camera=1, distractors=0, height=32, width=16
    )
    monkeypatch.setitem(SYNTHETIC, "synthetic", few)
    first = load_dataset("synthetic")
    times = [path.stat().st_mtime_ns for path in first.train.paths]
    again = load_dataset("synthetic")
    assert [path.stat().st_mtime_ns for path in again.train.paths] == times
    assert first.root.is_relative_to(tmp_path)
    monkeypatch.setitem(SYNTHETIC, "synthetic", few.model_copy(update={"seed": 1}))
    assert load_dataset("synthetic").root != first.root


def test_bad_synthetic_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="cameras=0"):
        synthetic_config({"cameras": 0})


def test_real_images_in_market_layout(omniglot: Path) -> None:
    dataset = load_dataset(str(omniglot / "omniglot_b"))
    assert [len(split) for split in (dataset.train, dataset.query, dataset.gallery)] == [1060, 318, 742]
    assert dataset.train.camera_count == 6
    assert not set(dataset.query.identities) - set(dataset.gallery.identities)


def test_a_folder_of_several_sets_is_not_guessed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / "both" / name, **NAMES)
    with pytest.raises(DataError, match=r"both holds 2 data sets: .*both/a, .*both/b; name one of them"):
        load_dataset("both", tmp_path)
    assert load_dataset("both/b", tmp_path).root == tmp_path / "both" / "b"


def test_a_second_copy_does_no_harm_and_all_are_listed(tmp_path: Path) -> None:
    for name in ("market1501", "Market-1501-v15.09.15"):
        make(tmp_path / name, **NAMES)
    assert [place.root.name for place in find_roots(CATALOG["market"], tmp_path)] == [
        "market1501",
        "Market-1501-v15.09.15",
    ]
    assert load_dataset("market", tmp_path).root.name == "market1501"
