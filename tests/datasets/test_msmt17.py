from pathlib import Path

import numpy as np
import pytest

from reidkit.datasets import load_dataset
from reidkit.datasets.msmt17 import MSMT17_LISTS, load_msmt17
from reidkit.errors import DataError

LINES = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0001_0.jpg 1"],
    "list_val.txt": ["0007/0000_001_02_0303morning_0008_0.jpg 0"],  # the folder says another identity
    "list_query.txt": ["0000/0000_000_03_0303morning_0008_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_000_04_0303morning_0008_0.jpg 0", "0001/0009_000_04_0303morning_0008_0.jpg 1"],
}


def make(root: Path, folders: tuple[str, str] = ("train", "test")) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for listing, lines in LINES.items():
        (root / listing).write_text("\n".join(lines) + "\n")
        folder = root / folders[listing in MSMT17_LISTS[2:]]
        for line in lines:
            path = folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"not decoded here")
            path.with_name(f"._{path.name}").write_bytes(b"left by an archive")
            path.with_name(path.name.replace("_0.jpg", "_9.jpg")).write_bytes(b"in no list")
        (folder / "__MACOSX").mkdir(exist_ok=True)
        (folder / "Thumbs.db").write_bytes(b"x")
    return root


@pytest.mark.parametrize(("version", "folders"), [("V1", ("train", "test")), ("V2", ("mask_train_v2", "mask_test_v2"))])
def test_both_versions(tmp_path: Path, version: str, folders: tuple[str, str]) -> None:
    dataset = load_msmt17(make(tmp_path, folders))
    assert dataset.version == f"{version}, train + val"
    np.testing.assert_array_equal(dataset.train.identities, [0, 1, 0])  # val shares the identities of train
    np.testing.assert_array_equal(dataset.train.cameras, [0, 14, 1])
    np.testing.assert_array_equal(dataset.query.cameras, [2])
    np.testing.assert_array_equal(dataset.gallery.identities, [0, 1])  # from the list, not from the name
    for split, listings in (("train", MSMT17_LISTS[:2]), ("query", MSMT17_LISTS[2:3]), ("gallery", MSMT17_LISTS[3:])):
        folder = tmp_path / folders[split != "train"]
        named = [folder / line.split()[0] for listing in listings for line in LINES[listing]]
        assert list(getattr(dataset, split).paths) == named  # and nothing that no list names


def test_identities_of_training_and_test_are_counted_independently(tmp_path: Path) -> None:
    dataset = load_msmt17(make(tmp_path))
    assert not dataset.comparable
    assert dataset.train.originals is not None
    assert set(dataset.train.originals) & set(dataset.query.identities) == {0}
    np.testing.assert_array_equal(dataset.is_person(np.array([-1, 0, 1])), [False, True, True])


def test_found_by_name_below_the_data_root(tmp_path: Path) -> None:
    root = make(tmp_path / "MSMT17_V1" / "MSMT17_V1")
    assert load_dataset("msmt17", tmp_path).root == root


def test_mixed_versions_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "mask_train_v2").mkdir()
    with pytest.raises(DataError, match=r"folders of both V1 and V2 \(train, test, mask_train_v2\).*keep one of them"):
        load_msmt17(tmp_path)


@pytest.mark.parametrize(("lost", "message"), [("test", "has train but not test"), ("both", "has no image folders")])
def test_missing_folders_are_named(tmp_path: Path, lost: str, message: str) -> None:
    make(tmp_path)
    for folder in ("test",) if lost == "test" else ("train", "test"):
        (tmp_path / folder).rename(tmp_path / f"{folder} moved away")
    with pytest.raises(DataError, match=f"{message}.*extract the"):
        load_msmt17(tmp_path)


def test_the_lists_of_the_other_version_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    for folder, renamed in (("train", "mask_train_v2"), ("test", "mask_test_v2")):
        (tmp_path / folder).rename(tmp_path / renamed)
    for listing in MSMT17_LISTS:
        text = (tmp_path / listing).read_text().replace("_0.jpg", "_1.jpg")
        (tmp_path / listing).write_text(text)
    with pytest.raises(DataError, match=r"2 of 2 images .*different versions"):
        load_msmt17(tmp_path)


def test_a_list_that_names_absent_files_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "test" / LINES["list_query.txt"][0].split()[0]).unlink()
    with pytest.raises(DataError, match=r"1 of 1 images .*list_query.txt names do not exist.*0000_000_03.*take lists"):
        load_msmt17(tmp_path)


@pytest.mark.parametrize(
    "line", ["nonsense", "0000/0000_000.jpg 0", "0000/0000_000_xx_a.jpg 0", "a_b_01_c.jpg zero", "a_b_00_c.jpg 0"]
)
def test_a_line_that_is_not_understood_is_named(tmp_path: Path, line: str) -> None:
    make(tmp_path)
    (tmp_path / "list_val.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=r"list_val\.txt, line 1"):
        load_msmt17(tmp_path)


@pytest.mark.parametrize("lost", [MSMT17_LISTS, MSMT17_LISTS[:1], MSMT17_LISTS[2:]])
@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_missing_lists_are_named_and_never_taken_for_plain_images(
    tmp_path: Path, folders: tuple[str, str], lost: tuple[str, ...]
) -> None:
    root = make(tmp_path / "msmt17", folders)
    for listing in lost:
        (root / listing).unlink()
    for target, data_root in (("msmt17", tmp_path), (str(root), None), (str(tmp_path), None)):
        with pytest.raises(DataError, match=rf"but not {', '.join(lost)}; .*beside {folders[0]} and {folders[1]}"):
            load_dataset(target, data_root)
    assert len(load_dataset(str(root / folders[0])).train) == 2 * 3  # the remedy, with those that no list names


def test_both_versions_side_by_side_are_not_guessed(tmp_path: Path) -> None:
    first = make(tmp_path / "MSMT17_V1" / "MSMT17_V1")
    second = make(tmp_path / "msmt17_v2", ("mask_train_v2", "mask_test_v2"))
    with pytest.raises(
        DataError, match=rf"several releases of MSMT17 .*{first} \(V1\) and {second} \(V2\).*--data-root"
    ):
        load_dataset("msmt17", tmp_path)
    assert [load_dataset("msmt17", root).version[:2] for root in (first, second)] == ["V1", "V2"]  # the remedy


@pytest.mark.parametrize(("content", "message"), [(b"\n\n", "is empty"), (b"\xff\xfe\xfa", "is not UTF-8 text")])
def test_a_useless_list_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    make(tmp_path)
    (tmp_path / "list_gallery.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"list_gallery\.txt {message}; MSMT17 needs list_train"):
        load_msmt17(tmp_path)
