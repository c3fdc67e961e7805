"""`reidkit extract` as a user types it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reidkit.cli import cli
from reidkit.inference import load
from reidkit.storage.feature_files import read_features
from tests.inference.conftest import NAMES, draw_images, save_checkpoint
from tests.tiny import tiny_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a checkpoint; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "tiny.pt", tiny_config("synthetic"))
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)


def extract(*arguments: str | Path) -> Result:
    typed = ["extract", "tiny.pt", *map(str, arguments), "--device", "cpu", "--precision", "32"]
    return CliRunner().invoke(cli, typed)


def test_features_of_folders_and_data_sets_that_cluster_reads(people: Path, tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", NAMES)
    (tmp_path / "photos" / "bad[i].png").write_text("no image")
    done = extract("photos", people, "-o", "features.npz", "--split", "query", "--batch-size", "4")
    assert done.exit_code == 0, done.output
    assert "warning: unreadable image, left out" in done.output
    stored = read_features(Path("features.npz"))
    assert f"features.npz: {len(stored.features)} images, features of 32 numbers" in done.output
    assert stored.paths is not None
    assert stored.identities is not None
    assert set(stored.paths[:6]) == set(map(str, images))
    assert (stored.identities[:6] == -1).all()
    assert (stored.identities[6:] > 0).all()
    expected = load("tiny.pt", device="cpu", precision="32").embed(stored.paths)
    np.testing.assert_allclose(stored.features, expected, atol=1e-6)
    clustered = CliRunner().invoke(cli, ["cluster", "features.npz", "-o", "labels.csv", "--k1", "4", "--k2", "2"])
    assert clustered.exit_code == 0, clustered.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos", "-o", "f.txt"], "none of .npz, .parquet, .safetensors"),
        (["absent", "-o", "f.npz"], "unknown data set 'absent'"),
        (["photos", "-o", "f.npz", "--strict"], "unreadable image"),
        (["photos", "-o", "f.npz", "--batch-size", "0"], "batch_size=0 is below 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    draw_images(tmp_path / "photos", ["a.png"])
    (tmp_path / "photos" / "bad.png").write_text("no image")
    done = extract(*arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output
    assert not Path("f.npz").exists()
