from pathlib import Path

import numpy as np
import pytest

from reidkit.errors import RunError
from reidkit.loop import RunFolder, atomic_write
from reidkit.loop.run_folder import free_run_path, latest_run_path
from tests.tiny import tiny_config


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    config = tiny_config("synthetic")
    RunFolder.create(tmp_path / "run", config).restore_history([])
    with pytest.raises(RunError, match="is used already; go on with that run by --resume"):
        RunFolder.create(tmp_path / "run", config)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is used already"):
        RunFolder.create(tmp_path / "file", config)


def test_the_folder_of_a_run_that_never_began_is_used_again(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", tiny_config("market"))
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    assert run.read_config().data.target == "synthetic"


def test_configurations_survive_the_round_trip(tmp_path: Path) -> None:
    config = tiny_config("synthetic", seed=7, clustering={"eps": 0.45})
    run = RunFolder.create(tmp_path / "run", config)
    assert run.read_config() == config


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no config\.toml"):
        RunFolder.open(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    (run.path / "checkpoints" / "last.pt").write_bytes(b"garbage")
    with pytest.raises(RunError, match=r"last\.pt is damaged"):
        run.load_checkpoint()
    (run.path / "config.toml").write_text("mode = ")
    with pytest.raises(RunError, match=r"config\.toml cannot be read"):
        run.read_config()


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    monkeypatch.setattr("reidkit.loop.run_folder.CHECKPOINT_FORMAT", 99)
    run.save_checkpoint("last", {})
    monkeypatch.undo()
    with pytest.raises(RunError, match="has format 99, this version reads 1"):
        run.load_checkpoint()


def test_labels_and_paths_are_kept(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    run.save_labels(3, np.array([0, -1]), [Path("a.jpg"), Path("b.jpg")])
    with np.load(run.path / "labels" / "epoch_003.npz") as stored:
        np.testing.assert_array_equal(stored["labels"], [0, -1])
        assert stored["paths"].tolist() == [str(Path("a.jpg").resolve()), str(Path("b.jpg").resolve())]


def test_default_folders_are_numbered(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run to resume"):
        latest_run_path(tmp_path, "usl-market")
    assert free_run_path(tmp_path, "usl-market").name == "usl-market"
    for name in ("usl-market", "usl-market-2"):
        (tmp_path / name).mkdir()
    assert free_run_path(tmp_path, "usl-market").name == "usl-market-3"
    assert latest_run_path(tmp_path, "usl-market").name == "usl-market-2"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"new")
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="could not be written"):
        fail()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_other_errors_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_write(tmp_path / "file"):
        raise KeyError("x")
    assert not list(tmp_path.iterdir())
