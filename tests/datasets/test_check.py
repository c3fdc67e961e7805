import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import DatasetFacts, check_dataset, load_dataset
from reidkit.datasets.check import inspect_files
from tests.datasets.test_benchmarks import MARKET, lay, rows
from tests.datasets.test_decoding import corrupt_images
from tests.datasets.test_lmdb_images import ENTRIES, write
from tests.datasets.test_msmt17 import make as make_msmt17

NO_IMAGE = "empty, damaged, or not an image of a known format"


def check(target: Path | str, root: Path | None = None, *, files: bool = True, read: bool = False) -> DatasetFacts:
    return check_dataset(load_dataset(str(target), root), files=files, read=read)


def test_counts_are_those_of_a_slow_count(people: Path) -> None:
    facts, dataset = check(people), load_dataset(str(people))
    assert (facts.problems, facts.notes, facts.duplicates) == ((), (), ())
    for split, entries in zip(facts.splits, rows(dataset), strict=True):
        identities = [identity for _, identity, _ in entries if split.name == "train" or identity != 0]
        counts = [identities.count(identity) for identity in set(identities)]
        assert split.images_per_identity == (min(counts), float(np.median(counts)), max(counts))
        cameras = [camera for *_, camera in entries]
        assert split.images_per_camera == {camera: cameras.count(camera) for camera in sorted(set(cameras))}
        assert (split.images, split.published) == (len(entries), None)
    assert facts.smallest is not None
    assert (facts.smallest.height, facts.smallest.width) == (32, 16)
    assert json.loads(json.dumps(facts.as_dict()))["splits"][0]["name"] == "train"


def test_copies_damage_and_odd_sizes_are_told(people: Path, tmp_path: Path) -> None:
    root = shutil.copytree(people, tmp_path / "set")
    train, query = (sorted((root / folder).iterdir()) for folder in MARKET[:2])
    shutil.copy(train[0], query[0])  # a leak
    shutil.copy(train[1], train[-1])  # one image, two identities
    query[1].write_bytes(b"")
    Image.new("RGB", (300, 3)).save(train[2])
    facts = check(root)
    assert (str(train[0]), str(query[0])) in facts.duplicates
    assert len(facts.duplicates) == 2
    leak, damage = facts.problems
    assert leak.startswith(
        f"1 images of query and gallery are training images too, byte by byte, for instance {query[0]}"
    )
    assert damage.startswith(f"unreadable image {query[1]}")
    repeated, torn, odd = facts.notes
    assert repeated.startswith(f"1 images repeat others of the same side, byte by byte, for instance {train[-1]}")
    assert torn.startswith("1 images are given to several identities")
    assert odd.endswith(f"for instance {train[2]} (300 x 3)")
    assert facts.smallest is not None
    assert facts.smallest == facts.largest
    assert facts.smallest.path == str(train[2])
    assert check(root, files=False).problems == ()


def test_only_reading_finds_what_the_header_hides(people: Path, tmp_path: Path) -> None:
    root = shutil.copytree(people, tmp_path / "set")
    victim = min((root / "query").iterdir())
    victim.write_bytes(victim.read_bytes()[:-30])
    assert check(root).problems == ()
    (problem,) = check(root, read=True).problems
    assert problem.startswith(f"unreadable image {victim}")


def test_the_nine_kinds_of_corrupt_images(people: Path, tmp_path: Path) -> None:
    root = shutil.copytree(people, tmp_path / "set")
    lost, read = corrupt_images(root / "query", "0011_c1s1_000001_")
    by_header, by_pixels = (check(root, read=decoded) for decoded in (False, True))
    for path in lost[1:]:
        (named,) = (line for line in by_header.problems if str(path) in line)
        assert named in by_pixels.problems  # in the same words
    assert not [line for line in by_pixels.problems if any(str(path) in line for path in read)]
    assert [line for line in by_pixels.problems if f"unreadable image {lost[0]}: OSError: " in line]
    for facts in (by_header, by_pixels):
        assert facts.largest is not None
        assert (facts.largest.path, facts.largest.width) == (str(read[3]), 30_000)
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (nothing / "a.jpg").touch()
    assert check(nothing, read=True).problems == (f"unreadable image {nothing / 'a.jpg'}: {NO_IMAGE}",)


@pytest.mark.parametrize(
    ("name", "finds_itself"), [("0011_c1.png", False), ("0011_c2.png", True), ("0012_c2.png", False)]
)
def test_queries_that_find_themselves(tmp_path: Path, name: str, finds_itself: bool) -> None:
    lay(tmp_path / "set", dict(zip(MARKET, (["0001_c1.png"], ["0011_c1.png"], ["0011_c3.png", name]), strict=True)))
    for number, path in enumerate(sorted((tmp_path / "set").rglob("[0-9]*.png"))):
        Image.new("RGB", (20, 40), (number, 0, 0)).save(path)
    query = tmp_path / "set" / "query" / "0011_c1.png"
    found = shutil.copy(query, tmp_path / "set" / "bounding_box_test" / name)
    problems = check(tmp_path / "set").problems
    assert len(problems) == finds_itself
    if finds_itself:
        assert problems[0].startswith(
            "1 of 1 queries find themselves in the gallery, byte by byte, and no camera rules it"
        )
        assert f"for instance {query} is {found}" in problems[0]


def test_one_file_as_query_and_gallery_of_a_table_without_cameras(people: Path, tmp_path: Path) -> None:
    images = sorted((people / "query").iterdir())[:2]
    lines = [f"{path},{split},{number}" for split in ("query", "gallery") for number, path in enumerate(images)]
    (tmp_path / "people.csv").write_text("\n".join(["path,split,identity", *lines]) + "\n")
    (problem,) = (line for line in check(tmp_path / "people.csv").problems if "find themselves" in line)
    assert problem.startswith("2 of 2 queries")


def test_people_of_the_test_that_are_trained_on(tmp_path: Path) -> None:
    names = (["0000_c1.jpg", "0001_c1.jpg", "0002_c1.jpg"], ["0002_c1.jpg"], ["0000_c1.jpg", "0002_c2.jpg"])
    lay(tmp_path / "market", dict(zip(MARKET, names, strict=True)))
    finding = "1 identities are both in train and in query or gallery, for instance 2"  # 0 is a distractor
    assert any(problem.startswith(finding) for problem in check("market", tmp_path, files=False).problems)
    own = check((tmp_path / "market").rename(tmp_path / "own"), files=False)
    assert (own.problems, own.notes[0][: len(finding)]) == ((), finding)
    # MSMT17 numbers training and test independently, in each of its layouts.
    make_msmt17(tmp_path / "msmt17")
    assert not [line for line in check("msmt17", tmp_path, files=False).problems if "identities are both" in line]


def test_sets_without_cameras_or_evaluation(tmp_path: Path) -> None:
    lay(tmp_path / "luperson", {"images": ["a.jpg"]})
    assert check("luperson", tmp_path, files=False).problems == (
        "train has 0 identities and 1 images; published are 0 and 4,180,243",
    )
    plain = check(tmp_path / "luperson" / "images", files=False)
    assert plain.problems == ()
    assert plain.notes[0].startswith("no training image has a camera id")
    assert plain.notes[1:] == (
        "there are no query and no gallery images: training needs train, evaluation needs query and gallery",
    )
    assert plain.splits[0].images_per_identity is None


def test_entries_of_a_database_are_looked_into(tmp_path: Path) -> None:
    whole = next(iter(ENTRIES.values()))
    write(tmp_path / "people", {**ENTRIES, b"again": whole, b"empty": b"", b"text": b"no image"})
    facts = check("people", tmp_path)
    database = tmp_path / "people" / "data.mdb"
    assert facts.problems == (
        f"unreadable image {database / 'empty'}: {NO_IMAGE}",
        f"unreadable image {database / 'text'}: {NO_IMAGE}",
    )
    assert facts.duplicates == ((str(database / next(iter(ENTRIES)).decode()), str(database / "again")),)


def test_cameras_and_matches_are_compared(tmp_path: Path) -> None:
    lay(tmp_path / "veri", {"image_train": ["1_c1_0.jpg"], "image_query": ["2_c1_0.jpg"], "image_test": ["2_c1_1.jpg"]})
    problems = check("veri", tmp_path, files=False).problems
    assert "train has 1 cameras; published are 20" in problems
    assert any(problem.startswith("1 of 1 queries have no gallery image") for problem in problems)


def test_progress_is_told_and_absent_files_are_problems(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    facts = inspect_files([tmp_path / "absent.jpg"], lambda done, total: seen.append((done, total)))
    assert facts.problems[0].startswith(f"{tmp_path / 'absent.jpg'}: FileNotFoundError")
    assert seen == [(0, 1)]
    assert inspect_files([]).duplicates == ()
