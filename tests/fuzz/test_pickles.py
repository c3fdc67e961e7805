"""A pickle that would run code executes nothing, wherever a checkpoint, a list or an array is read."""

import io
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner, Result
from PIL import Image

from reidkit.backbones import load_weights, read_checkpoint
from reidkit.cli import cli
from reidkit.datasets import decode_images, load_dataset
from reidkit.datasets.lmdb import load_lmdb
from reidkit.errors import CheckpointError, ConfigError, DataError, RunError
from reidkit.inference.calibration import read_calibration
from reidkit.loop import build_model, load_model
from reidkit.pretrain import read_list
from reidkit.reporting.run import read_run
from reidkit.runs import RunFolder, read_toml
from reidkit.runs.rankings import read_rankings
from reidkit.storage.feature_files import read_features, read_integers
from tests.fuzz.of_weights import seal
from tests.fuzz.readers import READERS, seeds_of
from tests.tiny import SETTINGS, tiny_config


class Harm(NamedTuple):
    """What would happen, and whether it has."""

    canary: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def harm(tmp_path: Path) -> Iterator[Harm]:
    bait = Harm(tmp_path / "canary")
    yield bait
    assert not bait.canary.exists()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands write into a folder of their own; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def array(harm: Harm) -> "np.ndarray[Any, Any]":
    values = np.empty(1, dtype=np.object_)
    values[0] = harm
    return values


def arrays(harm: Harm, *names: str) -> bytes:
    file = io.BytesIO()
    np.savez(file, **dict.fromkeys(names, array(harm)))  # type: ignore[arg-type]  # mypy thinks of allow_pickle
    return file.getvalue()


FORMS: dict[str, Callable[[Harm], bytes]] = {
    "new.pt": lambda harm: saved({"model": harm}),
    "old.pth": lambda harm: saved({"state_dict": harm}, _use_new_zipfile_serialization=False),
    "plain.tar": lambda harm: pickle.dumps({"state_dict": harm}, protocol=2),
}


@pytest.mark.parametrize("protocol", range(6))
def test_the_bait_works(tmp_path: Path, protocol: int) -> None:
    pickle.loads(pickle.dumps([Harm(tmp_path / "caught")], protocol=protocol))
    assert (tmp_path / "caught").is_dir()


@pytest.mark.parametrize("name", FORMS)
def test_weights(tmp_path: Path, harm: Harm, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(FORMS[name](harm))
    model = build_model(tiny_config("synthetic").backbone, 0)
    for read in (read_checkpoint, load_model, lambda path: load_weights(model, path)):
        with pytest.raises(CheckpointError, match=r"posix\.mkdir"):
            read(file)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", FORMS)
def test_checkpoint_of_a_run(tmp_path: Path, harm: Harm, name: str, sealed: bool) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    data = FORMS[name](harm)
    for stem in ("last", "previous"):
        (folder / f"{stem}.pt").write_bytes(seal(data) if sealed else data)
    with pytest.raises(RunError, match=r"posix\.mkdir"):
        RunFolder(tmp_path / "run").load_checkpoint()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["list.pkl", "list.txt"])
def test_lists(tmp_path: Path, harm: Harm, protocol: int, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(pickle.dumps(["a.jpg", harm], protocol=protocol))
    if name == "list.txt" and protocol < 2:  # text, though strange
        read_list(file)
    else:
        with pytest.raises(DataError, match=r"posix\.mkdir|holds more than text"):
            read_list(file)


def test_arrays(tmp_path: Path, harm: Harm) -> None:
    np.save(tmp_path / "a.npy", array(harm), allow_pickle=True)
    (tmp_path / "a.npz").write_bytes(arrays(harm, "features"))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(harm))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(harm))
    for name in ("a.npy", "a.npz", "b.npy", "b.npz"):
        with pytest.raises(DataError, match=name):
            read_features(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_integers(tmp_path / "a.npy", "cameras", 1)


def run_folder(folder: Path) -> Path:
    for name, content in seeds_of("run folder").items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def poison_run(folder: Path, harm: Harm) -> Path:
    run_folder(folder)
    (folder / "checkpoints").mkdir()
    for name in ("best.pt", "last.pt"):
        (folder / "checkpoints" / name).write_bytes(seal(FORMS["new.pt"](harm)))
    for epoch in (1, 2):
        (folder / "labels" / f"epoch_{epoch:03d}.npz").write_bytes(arrays(harm, "labels", "paths"))
    (folder / "features.npz").write_bytes(arrays(harm, "features"))
    (folder / "rankings.npz").write_bytes(arrays(harm, "average_precisions", "kinds", "queries"))
    return folder


def test_run_folder(tmp_path: Path, harm: Harm, caplog: pytest.LogCaptureFixture) -> None:
    folder = poison_run(tmp_path / "run", harm)
    assert read_run(folder).clustering is None
    assert "damaged" in " ".join(read_run(folder).notes)
    assert RunFolder(folder).load_labels(1) is None
    assert "epoch_001.npz" in caplog.text
    with pytest.raises(RunError, match=r"rankings\.npz"):
        read_rankings(folder)
    with pytest.raises(DataError, match=r"features\.npz"):
        read_features(folder)


def test_gallery_index(tmp_path: Path, harm: Harm) -> None:
    READERS["gallery index"].write(tmp_path)
    np.save(tmp_path / "index" / "000001.npy", array(harm), allow_pickle=True)
    with pytest.raises(DataError, match=r"000001\.npy is damaged"):
        READERS["gallery index"].read(tmp_path)


def test_settings_and_figures(tmp_path: Path, harm: Harm) -> None:
    """Text files that are pickles of any protocol are refused or left out, like any other damage."""
    for protocol in range(6):
        folder = run_folder(tmp_path / f"run{protocol}")
        for name in ("config.toml", "environment.json", "metrics.jsonl"):
            (folder / name).write_bytes(pickle.dumps(harm, protocol=protocol))
        assert {"config.toml", "environment.json"} <= {note.split()[0] for note in read_run(folder).notes}
        for read in (RunFolder(folder).read_config, RunFolder(folder).read_metrics):
            with pytest.raises(RunError, match=r"config\.toml|metrics\.jsonl"):
                read()
        with pytest.raises(ConfigError, match=r"config\.toml"):
            read_toml(folder / "config.toml")
        with pytest.raises(DataError, match=r"config\.toml"):
            read_calibration(folder / "config.toml")


@pytest.mark.parametrize("file", ["index.json", "pixels.bin"])
def test_store_of_images(tmp_path: Path, harm: Harm, file: str) -> None:
    """It is made anew."""
    READERS["image store"].write(tmp_path)
    place = next((tmp_path / "store").glob(f"*/{file}"))
    place.write_bytes(pickle.dumps(harm))
    READERS["image store"].read(tmp_path)


@pytest.mark.parametrize("file", ["key.json", "000000.npy", "000001.json"])
def test_work_of_a_selection(tmp_path: Path, harm: Harm, file: str) -> None:
    READERS["selection"].write(tmp_path)
    (tmp_path / "scores.parquet").write_bytes(pickle.dumps(harm))
    np.save(tmp_path / "array.npy", array(harm), allow_pickle=True)
    for data in (pickle.dumps(harm), (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "list.txt.work" / file).write_bytes(data)
        with pytest.raises(DataError, match=rf"{file} is damaged"):
            READERS["selection"].read(tmp_path)


@pytest.mark.parametrize("file", ["key.json", "000001.json", "000001.npy"])
def test_work_of_an_extraction(tmp_path: Path, harm: Harm, file: str) -> None:
    READERS["extraction"].write(tmp_path)
    np.save(tmp_path / "array.npy", array(harm), allow_pickle=True)
    for data in (pickle.dumps(harm), (tmp_path / "array.npy").read_bytes()):
        (tmp_path / ".out.npz.work" / file).write_bytes(data)
        with pytest.raises(DataError, match=rf"{file} is damaged"):
            READERS["extraction"].read(tmp_path)


def test_tables_of_images(tmp_path: Path, harm: Harm) -> None:
    for name in ("table.csv", "table.parquet"):
        (tmp_path / name).write_bytes(pickle.dumps(harm))
        with pytest.raises(DataError, match=name):
            load_dataset(str(tmp_path / name))


def test_pictures(tmp_path: Path, harm: Harm) -> None:
    (tmp_path / "a.jpg").write_bytes(pickle.dumps(harm))
    with pytest.raises(DataError, match="not an image"):
        decode_images([tmp_path / "a.jpg"], (16, 8), workers=1)


def test_a_database_that_is_a_pickle_or_lies_beside_one(tmp_path: Path, harm: Harm) -> None:
    READERS["LMDB"].write(tmp_path)
    (tmp_path / "keys.pkl").write_bytes(pickle.dumps(harm))
    assert len(load_lmdb(tmp_path, "x").train) == 20
    (tmp_path / "data.mdb").write_bytes(pickle.dumps(harm))
    with pytest.raises(DataError, match="is damaged, or no LMDB"):
        load_lmdb(tmp_path, "x")


def test_values_of_a_database(tmp_path: Path, harm: Harm) -> None:
    import lmdb

    with lmdb.open(str(tmp_path / "db"), map_size=2**18) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"a.jpg", pickle.dumps(harm))
    with pytest.raises(DataError, match="is a pickle"):
        load_lmdb(tmp_path / "db", "x")


# -- the same from the command line -----------------------------------------------------------------------------------


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def refused(result: Result, named: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert named in "".join(result.output.split())  # lines are wrapped


def settings(folder: Path) -> Path:
    (folder / "tiny.toml").write_bytes(tomli_w.dumps(SETTINGS).encode())
    return folder / "tiny.toml"


def quick(folder: Path) -> list[str | Path]:
    """Options of a short and silent run in `folder`."""
    return ["--config", settings(folder), "--output", folder / "run", "--quiet"]


@pytest.mark.parametrize("mode", ["usl", "supervised", "pretrain"])
def test_pretrained_weights_by_command(tmp_path: Path, people: Path, harm: Harm, mode: str) -> None:
    (tmp_path / "weights.pth").write_bytes(FORMS["new.pt"](harm))
    target = "--data" if mode == "pretrain" else "--dataset" if mode == "supervised" else "--target"
    result = command(mode, target, people, *quick(tmp_path), "--pretrained", tmp_path / "weights.pth")
    refused(result, "posix.mkdir")


def test_source_checkpoint_by_command(tmp_path: Path, people: Path, others: Path, harm: Harm) -> None:
    (tmp_path / "weights.pth").write_bytes(FORMS["old.pth"](harm))
    sets = ("--source", others, "--target", people)
    result = command("uda", *sets, *quick(tmp_path), "--source-checkpoint", tmp_path / "weights.pth")
    refused(result, "posix.mkdir")


def test_list_by_command(tmp_path: Path, people: Path, harm: Harm) -> None:
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(["a.jpg", harm]))
    refused(command("pretrain", "--data", people, *quick(tmp_path), "--list", tmp_path / "list.pkl"), "posix.mkdir")


def test_resumed_run_by_command(tmp_path: Path, people: Path, harm: Harm) -> None:
    run = RunFolder.create(tmp_path / "run", tiny_config(people))
    run.save_checkpoint("last", {"history": []})
    run.close()
    (tmp_path / "run" / "checkpoints" / "last.pt").write_bytes(seal(FORMS["new.pt"](harm)))
    refused(command("usl", "--target", people, "--resume", "--output", tmp_path / "run", "--quiet"), "posix.mkdir")


@pytest.mark.parametrize("name", FORMS)
def test_checkpoint_by_command(tmp_path: Path, people: Path, harm: Harm, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(FORMS[name](harm))
    Image.new("RGB", (8, 16)).save(tmp_path / "query.png")
    calls = {
        "evaluate": ("evaluate", file, "--on", people),
        "extract": ("extract", file, people, "-o", tmp_path / "features.npz"),
        "search": ("search", file, "--query", tmp_path / "query.png", "--gallery", people),
        "export": ("export", file, "--format", "safetensors", "-o", tmp_path / "out.safetensors"),
        "select": ("select", "--pretrained", file, "--finetuned", file, "--data", people, "-o", tmp_path / "list.txt"),
    }
    for call in calls.values():
        refused(command(*call), "posix.mkdir")


def test_features_by_command(tmp_path: Path, harm: Harm) -> None:
    np.save(tmp_path / "a.npy", array(harm), allow_pickle=True)
    (tmp_path / "a.npz").write_bytes(arrays(harm, "features"))
    np.save(tmp_path / "good.npy", np.eye(4, dtype=np.float32))
    for name in ("a.npy", "a.npz"):
        refused(command("cluster", tmp_path / name, "-o", tmp_path / "labels.csv"), name)
    cameras = ("--cameras", tmp_path / "a.npy", "-o", tmp_path / "labels.csv")
    refused(command("cluster", tmp_path / "good.npy", *cameras), "a.npy")
    refused(command("cluster", poison_run(tmp_path / "run", harm), "-o", tmp_path / "labels.csv"), "features.npz")


def test_scores_and_runs_by_command(tmp_path: Path, people: Path, harm: Harm) -> None:
    """Run folders are taken wherever a checkpoint is; of two of them, too, nothing is executed."""
    runs = [poison_run(tmp_path / name, harm) for name in ("one", "other")]
    refused(command("evaluate", runs[0], "--on", people), "posix.mkdir")
    refused(command("extract", runs[0], people, "-o", tmp_path / "features.npz"), "posix.mkdir")
    result = command("report", *runs, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    for mode in ("usl", "supervised"):
        target = "--dataset" if mode == "supervised" else "--target"
        arguments = (mode, target, people, *quick(tmp_path))
        refused(command(*arguments, "--pretrained", runs[0]), "posix.mkdir")


def test_report_by_command(tmp_path: Path, harm: Harm) -> None:
    """What is damaged becomes a note on the page."""
    folder = poison_run(tmp_path / "run", harm)
    result = command("report", folder)
    assert result.exit_code == 0, result.output
    assert "epoch_002.npz is damaged" in (folder / "report.html").read_text(encoding="utf-8")
