"""A pickle that would run code executes nothing, wherever a checkpoint, a list or an array is read."""

import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from reidkit.backbones import load_weights, read_checkpoint
from reidkit.errors import CheckpointError, DataError, RunError
from reidkit.loop import build_model, load_model
from reidkit.pretrain import read_list
from reidkit.reporting.run import read_run
from reidkit.runs import RunFolder
from reidkit.runs.rankings import read_rankings
from reidkit.storage.feature_files import read_features, read_integers
from tests.fuzz.of_weights import seal
from tests.fuzz.readers import READERS, seeds_of
from tests.tiny import tiny_config


class Harm(NamedTuple):
    """A pickled call, and whether it has run."""

    canary: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def harm(tmp_path: Path) -> Iterator[Harm]:
    bait = Harm(tmp_path / "canary")
    yield bait
    assert not bait.canary.exists()


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
        with pytest.raises(DataError, match=r"posix\.mkdir"):
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
