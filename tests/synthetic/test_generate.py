import json
import re
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from reidkit.errors import ConfigError, DataError
from reidkit.synthetic import FORMAT, SyntheticConfig, generate, make_synthetic

TINY = SyntheticConfig(
    train_identities=3, test_identities=3, cameras=4, images_per_camera=2, distractors=4, height=32, width=16
)
NAME = re.compile(r"(\d{4})_c(\d+)s(\d)_(\d{6})_01\.jpg")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "tiny"
    make_synthetic(folder, TINY, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def keys(folder: Path, split: str) -> list[tuple[int, int]]:
    """Identity and camera of every image of a split."""
    matches = [NAME.fullmatch(path.name) for path in sorted((folder / split).iterdir())]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches if match]


def test_the_layout_is_market_1501s(tiny: Path) -> None:
    assert sorted(path.name for path in tiny.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "query",
        "synthetic.json",
    ]
    record = json.loads((tiny / "synthetic.json").read_text())
    assert record == {"format": FORMAT, **TINY.model_dump()}
    assert not list(tiny.parent.glob(".*"))


def test_identities_cameras_and_counts(tiny: Path) -> None:
    train, query, gallery = (keys(tiny, split) for split in ("bounding_box_train", "query", "bounding_box_test"))
    assert {identity for identity, _ in train} == {1, 2, 3}
    assert {identity for identity, _ in gallery} == {0, 4, 5, 6}
    assert {identity for identity, _ in query} == {4, 5, 6}
    assert sum(identity == 0 for identity, _ in gallery) == 4
    for keyed in (train, [key for key in gallery if key[0]]):
        seen = defaultdict(list)
        for identity, camera in keyed:
            seen[identity].append(camera)
        for cameras in seen.values():
            assert all(cameras.count(camera) == 2 for camera in cameras)
            assert 3 <= len(set(cameras)) <= 4
            assert set(cameras) <= {1, 2, 3, 4}


def test_every_query_has_a_match_in_another_camera(tiny: Path) -> None:
    gallery = keys(tiny, "bounding_box_test")
    query = keys(tiny, "query")
    assert len(set(query)) == len(query)
    for identity, camera in query:
        assert any(other == identity and seen != camera for other, seen in gallery)


def test_two_processes_give_the_same_bytes_as_one(tiny: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "again", TINY, workers=2)
    assert contents(tmp_path / "again") == contents(tiny)


def test_other_identities_change_nothing(tiny: Path, tmp_path: Path) -> None:
    more = TINY.model_copy(update={"test_identities": 4, "distractors": 6})
    make_synthetic(tmp_path / "more", more, workers=1)
    few, many = contents(tiny), contents(tmp_path / "more")
    assert len(many) > len(few)
    assert {name: many[name] for name in few} == few


def test_a_finished_set_is_kept(tiny: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    make_synthetic(tiny, TINY, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == times


def test_progress_counts_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_synthetic(tmp_path / "set", TINY, workers=1, progress=lambda made, images: seen.append((made, images)))
    assert seen == sorted(seen)
    assert {images for _, images in seen} == {len(contents(tmp_path / "set"))}
    assert seen[-1][0] == seen[-1][1]


def test_an_interrupted_run_leaves_nothing_and_the_next_one_completes(tiny: Path, tmp_path: Path) -> None:
    def interrupt(made: int, images: int) -> None:
        assert not (tmp_path / "set").exists()
        if made > images // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "set", TINY, workers=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".set.1-dead" / "query").mkdir(parents=True)  # what a killed process leaves
    make_synthetic(tmp_path / "set", TINY, workers=1)
    assert contents(tmp_path / "set") == contents(tiny)


def test_who_comes_second_keeps_the_first_set(tmp_path: Path) -> None:
    def overtake(made: int, images: int) -> None:
        if not (tmp_path / "set").exists():
            make_synthetic(tmp_path / "set", TINY, workers=1)

    make_synthetic(tmp_path / "set", TINY, workers=1, progress=overtake)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(DataError, match="seed=0 instead of 1"):
        make_synthetic(tmp_path / "set", TINY.model_copy(update={"seed": 1}), workers=1)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    make_synthetic(tmp_path / "set", TINY, workers=1)
    assert (tmp_path / "set" / "synthetic.json").is_file()


def test_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is no synthetic set \(no readable synthetic.json\); choose another folder"):
        make_synthetic(tmp_path, TINY, workers=1)
    with pytest.raises(DataError, match="is no synthetic set"):
        make_synthetic(tmp_path / "notes.txt", TINY, workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the synthetic set to .*file/set.*choose a folder"):
        make_synthetic(tmp_path / "file" / "set", TINY, workers=1)


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers=0: rendering needs at least one process"):
        make_synthetic(tmp_path / "set", TINY, workers=0)


def test_a_dead_worker_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DeadPool:
        def __init__(self, *args: Any, **options: Any) -> None: ...

        def __enter__(self) -> "DeadPool":
            return self

        def __exit__(self, *args: object) -> None: ...

        def map(self, *args: Any, **options: Any) -> list[int]:
            raise BrokenProcessPool("died")

    monkeypatch.setattr(generate, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(DataError, match=r"a process that rendered images died.*__main__.*workers=1"):
        make_synthetic(tmp_path / "set", TINY, workers=2)
    assert list(tmp_path.iterdir()) == []
