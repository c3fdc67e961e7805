"""What a typed path means."""

import csv
from pathlib import Path

import pytest

from reidkit.datasets import load_dataset
from reidkit.errors import DataError
from reidkit.inference import find_images
from tests.datasets.test_msmt17 import make as make_msmt17
from tests.inference.conftest import NAMES, draw_images


def test_folders_globs_lists_and_images_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = draw_images(tmp_path / "photos" / "deep", NAMES)
    other = draw_images(tmp_path / "more", ["b[1].png", "a.png"])
    assert sorted(find_images(["photos"]).paths) == sorted(images)
    assert find_images(["more/*.png"]).paths == (other[1], other[0])
    assert set(find_images(["**/*.jpg"]).paths) == set(images)
    assert find_images(["more/b[1].png", "more", "more/a.png"]).paths == tuple(other)
    Path("more/list.txt").write_text("a.png\r\n\nb[1].png\nabsent.png\n")
    assert find_images(["more/list.txt"]).paths == (other[1], other[0], tmp_path / "more" / "absent.png")
    with Path("list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["who", "path"], *(["x", str(image)] for image in images)])
    found = find_images(["list.csv"])
    assert found.paths == tuple(images)
    assert found.identities.tolist() == found.cameras.tolist() == [-1] * 6


def test_data_sets_bring_identities_and_cameras_that_do_not_clash(people: Path, others: Path) -> None:
    data = load_dataset(str(people))
    found = find_images([str(people)])
    splits = (data.train, data.query, data.gallery)
    assert found.paths == tuple(path.absolute() for split in splits for path in split.paths)
    by_name = {path.name: int(name) for path, name in zip(found.paths, found.identities, strict=True)}
    persons: dict[str, set[int]] = {}
    for name, identity in by_name.items():
        persons.setdefault(name.split("_")[0], set()).add(identity)
    assert persons.pop("0000") == {-1}
    assert all(len(numbers) == 1 for numbers in persons.values())
    assert len(set.union(*persons.values())) == len(persons)
    both = find_images([str(people), str(others)])
    first, second = slice(0, len(found)), slice(len(found), None)
    for values in (both.identities, both.cameras):
        assert not set(values[first][values[first] >= 0]) & set(values[second][values[second] >= 0])
    assert find_images([str(people)], splits=["query"]).paths == tuple(path.absolute() for path in data.query.paths)


def test_identity_0_is_a_person_where_the_data_set_says_so(tmp_path: Path) -> None:
    make_msmt17(tmp_path / "msmt17")
    dataset = load_dataset("msmt17", tmp_path)
    assert 0 in dataset.gallery.identities
    found = find_images(["msmt17"], data_root=tmp_path)
    assert found.identities.min() == 0


def test_what_names_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("file\na.png\n")
    Path("empty.txt").write_text("\n")
    cases = {"*.png": "matches", "other.csv": "no column `path`", "empty.txt": "names no images", "market9": "unknown"}
    for target, words in cases.items():
        with pytest.raises(DataError, match=words):
            find_images([target])
