"""What commands make of images that are not what their names say."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import Result

from reidkit.storage.feature_files import read_features
from tests.cli.test_commands import TINY, elsewhere, reidkit
from tests.datasets.test_decoding import Corrupt, corrupt_images
from tests.inference.conftest import save_checkpoint
from tests.tiny import tiny_config

__all__ = ["elsewhere"]  # every test here runs in a folder of its own

CPU = ("--device", "cpu", "--precision", "32")


class Damaged(NamedTuple):
    """A set with the nine kinds of corrupt images in each split, and the same without those that have no pixels."""

    root: Path
    clean: Path
    train: Corrupt
    query: Corrupt
    gallery: Corrupt


@pytest.fixture
def damaged(people: Path, tmp_path: Path) -> Damaged:
    root = shutil.copytree(people, tmp_path / "damaged")
    # Training person 1; person 9 is a query, and at another camera in the gallery.
    places = {"bounding_box_train": "0001_c1s1_900000_", "query": "0009_c1s1_900000_"}
    places["bounding_box_test"] = "0009_c2s1_900000_"
    made = [corrupt_images(root / folder, prefix) for folder, prefix in places.items()]
    clean = shutil.copytree(root, tmp_path / "clean", symlinks=True)
    for corrupt in made:
        for path in corrupt.lost:
            (clean / path.relative_to(root)).unlink()
    save_checkpoint(tmp_path / "tiny.pt", tiny_config("synthetic"))
    return Damaged(root, clean, *made)


def named(done: Result, lost: list[Path], words: str) -> bool:
    """Whether every one of the files has a line of its own, and no other file has."""
    lines = [line for line in done.output.splitlines() if words in line]
    return len(lines) == len(lost) and all(any(f"{path}: " in line for line in lines) for path in lost)


def test_check_names_each(damaged: Damaged) -> None:
    lost = [*damaged.train.lost, *damaged.query.lost, *damaged.gallery.lost]
    done = reidkit("data", "check", damaged.root, "--read", "--thumbnails", "sheet.png")
    assert done.exit_code == 1, done.output
    assert named(done, lost, "warning: unreadable image ")
    assert "largest image: 30,000 x 1 pixels" in done.output
    assert Path("sheet.png").exists()
    clean = reidkit("data", "check", damaged.clean, "--read")
    assert "unreadable" not in clean.output


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_extraction_names_and_leaves_out_and_goes_on(damaged: Damaged, split: str) -> None:
    corrupt: Corrupt = getattr(damaged, split)
    done = reidkit("extract", "tiny.pt", damaged.root, "--split", split, "-o", "features.npz", *CPU)
    assert done.exit_code == 0, done.output
    assert named(done, corrupt.lost, "warning: unreadable image, left out: ")
    expected = reidkit("extract", "tiny.pt", damaged.clean, "--split", split, "-o", "clean.npz", *CPU)
    assert "unreadable" not in expected.output
    features, clean = (read_features(Path(f"{name}.npz")) for name in ("features", "clean"))
    assert features.paths is not None
    assert {str(path) for path in corrupt.read} <= set(features.paths)
    np.testing.assert_allclose(features.features, clean.features, atol=1e-5)


def test_evaluation_names_and_leaves_out_and_goes_on(damaged: Damaged) -> None:
    sets = ("--on", damaged.root, "--on", damaged.clean)
    done = reidkit("evaluate", "tiny.pt", *sets, "--json", "scores.json", *CPU)
    assert done.exit_code == 0, done.output
    assert named(done, [*damaged.query.lost, *damaged.gallery.lost], "warning: unreadable image, left out: ")
    assert "5 of 21 query images are unreadable and left out (--strict stops instead)" in done.output
    scores, expected = (
        {key: value for key, value in row.items() if key not in ("dataset", "checkpoint")}
        for row in json.loads(Path("scores.json").read_text())
    )
    assert scores == pytest.approx(expected)
    strict = reidkit("evaluate", "tiny.pt", "--on", damaged.root, "--strict", *CPU)
    assert strict.exit_code == 2
    assert f"unreadable image {min(damaged.query.lost)}: " in strict.output


def test_a_run_names_and_leaves_out_and_goes_on(damaged: Damaged) -> None:
    done = reidkit("usl", "--target", damaged.root, "--output", "run", *TINY, "--epochs", "1")
    assert done.exit_code == 0, done.output
    lost = [*damaged.train.lost, *damaged.query.lost, *damaged.gallery.lost]
    assert named(done, lost, "warning: unreadable image, left out: ")
    log = Path("run/log.txt").read_text()
    assert all(f"unreadable image, left out: {path}: " in log for path in lost)
