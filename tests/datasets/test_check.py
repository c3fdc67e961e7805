import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from reidkit.datasets import DatasetFacts, check_dataset, load_dataset
from reidkit.datasets.file_facts import inspect_files
from tests.datasets.test_benchmarks import MARKET, lay, rows
from tests.datasets.test_msmt17 import make as make_msmt17


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
