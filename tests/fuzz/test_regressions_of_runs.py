"""Hostile inputs that were once read wrongly: what runs, selections and stores of images find when they go on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reidkit.datasets.store import list_stores
from reidkit.errors import RunError
from reidkit.runs import RunFolder
from reidkit.runs.checkpoints import CHECKPOINT_FORMAT
from tests.fuzz.of_weights import seal
from tests.fuzz.readers import READERS, seeds_of

STORE = "store/0000000000000000"


def lay_out(reader: str, folder: Path) -> Path:
    for name, content in seeds_of(reader).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def change_checkpoint(path: Path, change: Callable[[Any], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    path.write_bytes(seal(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state["model"].popitem(), "Missing key"),
        (lambda state: state["optimizer"].pop("state"), "'state'"),
        (lambda state: state["optimizer"].update(param_groups=[]), "parameter group"),
        (lambda state: state.pop("heads"), "'heads'"),
        (lambda state: state.pop("history"), "'history'"),
        (lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)), "moment exp_avg"),
        (lambda state: (state["history"].pop(), state.update(partial={"epoch": 1})), "does not go with"),
    ],
)
def test_checkpoints_of_another_run(tmp_path: Path, change: Callable[[Any], object], told: str) -> None:
    lay_out("run to go on with", tmp_path)
    READERS["run to go on with"].read(tmp_path)
    change_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt", change)
    with pytest.raises(RunError, match=rf"the checkpoint of run does not go with its settings.*{told}|{told}"):
        READERS["run to go on with"].read(tmp_path)


@pytest.mark.parametrize("known", [CHECKPOINT_FORMAT + 1, None])
def test_checkpoint_of_another_format(tmp_path: Path, known: object) -> None:
    lay_out("run's checkpoint", tmp_path)
    change_checkpoint(tmp_path / "checkpoints" / "last.pt", lambda state: state.update(format=known))
    with pytest.raises(RunError, match=r"has format .*, this version reads 2"):
        RunFolder(tmp_path).load_checkpoint()


@pytest.mark.parametrize(
    "change",
    [
        {"images": 2**40},
        {"rows": 2**40},
        {"rows": 2},
        {"size": [8, 16]},
        {"size": [-16, -8]},
        {"readable": ""},
        {"readable": "eJz7DwAAAAD//wMAAAABAAE="},
        {"crc32": []},
        {"bytes": 0},
    ],
)
def test_stores_that_contradict_themselves_are_made_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    """A number of images took as many bytes, or was believed."""
    lay_out("image store", tmp_path)
    index = tmp_path / STORE / "index.json"
    index.write_text(json.dumps({**json.loads(index.read_bytes()), **change}), encoding="utf-8")
    READERS["image store"].read(tmp_path)


@pytest.mark.parametrize("name", ["index.json", "pixels.bin"])
def test_what_is_no_file_in_a_store(tmp_path: Path, name: str) -> None:
    """A pipe was waited for."""
    for kind in ("pipe", "folder", "loop"):
        place = lay_out("image store", tmp_path / kind) / STORE / name
        place.unlink()
        {"pipe": os.mkfifo, "folder": os.mkdir, "loop": lambda path: os.symlink(path, path)}[kind](place)
        assert [record.key for record in list_stores(tmp_path / kind / "store")] == ["0" * 16]
        READERS["image store"].read(tmp_path / kind)


def test_files_with_the_name_of_a_store(tmp_path: Path) -> None:
    lay_out("image store", tmp_path)
    (tmp_path / "store" / ("1" * 16)).write_bytes(b"x")
    assert [record.key for record in list_stores(tmp_path / "store")] == ["0" * 16]


def test_scores_of_fewer_images_are_no_help(tmp_path: Path) -> None:
    from reidkit.pretrain.lists import write_scores

    lay_out("selection", tmp_path)
    few = np.zeros(1, np.float32)
    write_scores(tmp_path / "scores.parquet", ["0.png"], few, np.arange(1), 1, {"models": "two"})
    READERS["selection"].read(tmp_path)
    assert (tmp_path / "list.txt").exists()
