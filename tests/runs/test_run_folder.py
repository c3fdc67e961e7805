import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reidkit.__about__ import __version__
from reidkit.errors import RunError
from reidkit.runs import EpochRecord, RunFolder
from reidkit.runs.run_folder import latest_run_path, new_run_path
from reidkit.storage import sole_writer
from tests.injected_faults import child, full_disk, powerless, public
from tests.tiny import tiny_config

__all__ = ["public"]


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


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    for damage in (b"mode = ", b"\xff\xfe", b"x = " + b"[" * 100_000):
        (run.path / "config.toml").write_bytes(damage)
        with pytest.raises(RunError, match=r"config\.toml cannot be read: .*start a new run without --resume"):
            run.read_config()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("[training]\nepoch = 3", r"unknown setting training\.epoch \(did you mean 'epochs'\?\)"),
        ("mode = 'magic'", "mode='magic'"),
    ],
)
def test_a_configuration_of_another_version_is_named(tmp_path: Path, settings: str, problem: str) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    (run.path / "config.toml").write_text(settings)
    with pytest.raises(RunError, match=rf"{problem}.*resume with the reidkit that wrote it \({__version__}\)"):
        run.read_config()
    (run.path / "environment.json").write_text("{")
    with pytest.raises(RunError, match=r"wrote it \(unknown\)"):
        run.read_config()


def test_a_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    assert not run.begun
    assert run.load_checkpoint() is None
    run.save_checkpoint("last", {"history": []})
    assert run.begun
    loaded = run.load_checkpoint()
    assert loaded is not None
    assert loaded["history"] == []


def test_checkpoints_that_are_gone_are_no_new_beginning(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    run.restore_history([])
    assert run.load_checkpoint() is None
    run.append(EpochRecord(epoch=0, scores={"mAP": 1.5}))
    with pytest.raises(RunError, match=r"has neither last\.pt nor previous\.pt.*has finished epochs"):
        run.load_checkpoint()


def test_a_folder_in_use_is_refused_to_new_runs_and_to_resumed_ones(tmp_path: Path) -> None:
    config, path = tiny_config("synthetic"), tmp_path / "run"

    def work(ready: Callable[[], None]) -> None:
        run = RunFolder.create(path, config)
        ready()
        time.sleep(60)
        run.close()

    with child(work):
        before = (path / "config.toml").read_bytes()
        attempts: list[Callable[[], object]] = [
            lambda: RunFolder.create(path, tiny_config("market")),
            lambda: RunFolder.open(path),
        ]
        for attempt in attempts:
            with pytest.raises(RunError, match="another process writes into"):
                attempt()
        assert (path / "config.toml").read_bytes() == before
    assert RunFolder.open(path).read_config() == config


def test_a_closed_run_lets_others_in(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    with pytest.raises(RunError, match="another process"), sole_writer(run.path):
        pass
    run.close()
    with sole_writer(run.path):
        pass


def test_a_refused_folder_is_not_held(tmp_path: Path) -> None:
    config = tiny_config("synthetic")
    run = RunFolder.create(tmp_path / "run", config)
    run.restore_history([])
    run.close()
    with pytest.raises(RunError, match="is used already"):
        RunFolder.create(run.path, config)
    with sole_writer(run.path):
        pass


@pytest.mark.parametrize("stopped_after", range(5))
def test_a_kill_while_the_folder_is_made_leaves_one_that_is_used_again(tmp_path: Path, stopped_after: int) -> None:
    config, path = tiny_config("synthetic"), tmp_path / "run"
    path.mkdir()
    (path / f".config.toml.{os.getpid()}.tmp").write_text("mode")  # what a process killed at the worst moment leaves
    made = ["config.toml", "environment.json", "labels", "checkpoints"][:stopped_after]
    whole = RunFolder.create(tmp_path / "whole", config)
    for name in [".lock", *made]:
        source = whole.path / name
        (path / name).mkdir() if source.is_dir() else (path / name).write_bytes(source.read_bytes())
    if "config.toml" in made:
        assert RunFolder.open(path).read_config() == config
    run = RunFolder.create(path, config)
    run.save_checkpoint("last", {})
    run.save_labels(1, np.array([0]), [Path("a.jpg")])
    assert not list(path.rglob("*.tmp"))


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    path = RunFolder.create(tmp_path / "run", tiny_config("synthetic")).path
    for name in ("labels/.epoch_003.npz.12.tmp", "checkpoints/.last.pt.1.tmp", ".metrics.jsonl.7.tmp"):
        (path / name).write_bytes(b"half")
    RunFolder.open(path)
    assert not list(path.rglob("*.tmp"))


def test_a_full_disk_and_a_vanished_folder_are_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    run.append(EpochRecord(epoch=0, scores={"mAP": 1.5}))
    with full_disk(10), pytest.raises(RunError, match=r"metrics\.jsonl could not be written .*Free some space"):
        run.append(EpochRecord(epoch=1, scores={"mAP": 2.5}))
    shutil.rmtree(run.path)
    writes: list[Callable[[], None]] = [
        lambda: run.append(EpochRecord(epoch=1, scores={"mAP": 2.5})),
        lambda: run.save_checkpoint("last", {}),
        lambda: run.save_labels(1, np.array([0]), [Path("a.jpg")]),
    ]
    for write in writes:
        with pytest.raises(RunError, match="Its folder is gone: bring it back"):
            write()
    assert not run.path.exists()


def test_a_folder_of_others_is_refused(public: Path) -> None:
    config = tiny_config("synthetic")
    RunFolder.create(public / "run", config).close()
    with powerless():
        with pytest.raises(RunError, match=r"cannot be made \(Permission denied\); choose another folder"):
            RunFolder.create(public / "new", config)
        with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)"):
            RunFolder.open(public / "run")


def test_a_folder_that_nobody_may_look_into_is_refused(public: Path) -> None:
    RunFolder.create(public / "secret" / "run", tiny_config("synthetic")).close()
    (public / "secret").chmod(0o000)
    with powerless():
        for attempt in (RunFolder.open, lambda path: RunFolder.create(path, tiny_config("synthetic"))):
            with pytest.raises(RunError):
                attempt(public / "secret" / "run")
    (public / "secret").chmod(0o755)


def test_labels_and_paths_are_kept(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    run.save_labels(3, np.array([0, -1]), [Path("a.jpg"), Path("b.jpg")])
    with np.load(run.path / "labels" / "epoch_003.npz") as stored:
        np.testing.assert_array_equal(stored["labels"], [0, -1])
        assert stored["paths"].tolist() == [str(Path("a.jpg").resolve()), str(Path("b.jpg").resolve())]


def test_damaged_labels_are_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config("synthetic"))
    assert run.load_labels(3) is None
    run.save_labels(3, np.array([0, -1]), [Path("a.jpg"), Path("b.jpg")])
    np.testing.assert_array_equal(run.load_labels(3), [0, -1])
    assert not caplog.records
    (run.path / "labels" / "epoch_003.npz").write_bytes(b"PK\x03\x04 half")
    assert run.load_labels(3) is None
    assert "epoch_003.npz is damaged (BadZipFile)" in caplog.text


def test_default_folders_are_numbered(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    with pytest.raises(RunError, match="there is no run to resume"):
        latest_run_path(parent, "usl-market")
    made = [new_run_path(parent, "usl-market") for _ in range(3)]
    assert [path.name for path in made] == ["usl-market", "usl-market-2", "usl-market-3"]
    assert all(path.is_dir() for path in made)
    assert latest_run_path(parent, "usl-market") == made[-1]


def test_where_no_default_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for parent in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(RunError, match="could not be written"):
            new_run_path(parent, "usl-market")
