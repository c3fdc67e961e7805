"""Readers of weights: checkpoints of ours and of others, exported files, runs to go on with."""

import hashlib
import io
import os
import warnings
from contextlib import chdir
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch
from safetensors.numpy import save as to_safetensors

from reidkit.backbones import infer_architecture, load_weights, read_checkpoint
from reidkit.errors import CheckpointError
from reidkit.export import export_checkpoint
from reidkit.loop import load_model
from reidkit.runs import RunFolder
from reidkit.runs.checkpoints import write_checkpoint
from reidkit.supervised import train_supervised
from tests.fuzz.reader import Reader, model, picture, state
from tests.tiny import tiny_config, tiny_run

__all__ = ["READERS", "seal"]


def _write_legacy(folder: Path) -> None:
    torch.save({"state_dict": model().state_dict()}, folder / "old.pth", _use_new_zipfile_serialization=False)


def _write_weights(folder: Path) -> None:
    weights = {f"backbone.{name}": value.numpy() for name, value in model().backbone.state_dict().items()}
    (folder / "weights.safetensors").write_bytes(to_safetensors(weights))


def _read_weights(folder: Path) -> None:
    file = next(folder.iterdir())
    infer_architecture(read_checkpoint(file))
    load_weights(model(), file)


def _write_run_checkpoint(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "config.toml").write_text('mode = "usl"\n', encoding="utf-8")
    for epoch in range(2):
        write_checkpoint(folder / "checkpoints", "last", state(history=[{"epoch": epoch}]))


def seal(data: bytes) -> bytes:
    """A checkpoint with the right checksum."""
    content = data.rpartition(b"\nreidkit sha256 ")[0] or data
    return content + b"\nreidkit sha256 %s\n" % hashlib.sha256(content).hexdigest().encode()


def change_state(data: bytes, rng: Random) -> bytes:
    """A checkpoint that is whole, but for one value somewhere in it: missing, of another kind or of another shape."""
    content: Any = torch.load(io.BytesIO(data), weights_only=True)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    if rng.random() < 0.3:
        del place[key]
    else:
        odd = (None, -1, 2**40, 1e30, "x", [], {}, {"x": 1}, [1], b"x", True, *_tensors(place[key], rng))
        place[key] = rng.choice(odd)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _tensors(value: Any, rng: Random) -> tuple[torch.Tensor, ...]:
    """Odd ones, more often where there was one."""
    if not isinstance(value, torch.Tensor):
        return torch.zeros(3), torch.tensor(2**40)
    odd = (
        *(torch.zeros(0), torch.zeros(1, 1, 1, 1, 1), value.to(torch.complex64), value[None], value.bool()),
        *(value.double() * float("nan"), value.to(torch.float16), value.to("meta")),
        *(value.to_sparse(), value.flatten()[: rng.randrange(9)], torch.zeros(tuple(side + 1 for side in value.shape))),
    )
    return odd * 2


def _write_exported(folder: Path) -> None:
    # One head: the format of TransReID-SSL takes 64 numbers for each.
    config = tiny_config("synthetic", backbone={"num_heads": 1})
    torch.save(state(config=config.model_dump_json()), folder / "new.pt")
    for name, form in (("a.safetensors", "safetensors"), ("b.pth", "transreid-ssl"), ("c.ts", "torchscript")):
        with warnings.catch_warnings(action="ignore"):
            export_checkpoint(folder / "new.pt", form, folder / name)  # type: ignore[arg-type]  # they are formats
    (folder / "new.pt").unlink()


def _read_exported(folder: Path) -> None:
    """Each of them, whatever becomes of the others; TorchScript holds code and is always refused."""
    refusals = []
    for file in sorted(folder.iterdir()):
        try:
            load_model(file)
        except CheckpointError as error:
            refusals += [error] * (file.suffix != ".ts")
    if refusals:
        raise refusals[0]


_SHORT = {"training": {"epochs": 1, "iterations": 1}, "mode": "supervised"}


def _write_begun(folder: Path) -> None:
    """A run of one epoch on labelled images: nothing is clustered or ranked, as numba's threads survive no fork."""
    for number in range(16):
        picture(folder / f"{number}.png", number)
    rows = "".join(f"{number}.png,train,{number // 4},{number % 3}\n" for number in range(16))
    (folder / "people.csv").write_text(f"path,split,identity,camera\n{rows}", encoding="utf-8")
    with chdir(folder), patch.dict(os.environ, REIDKIT_CACHE=str(folder / "cache")):
        config = tiny_config("people.csv", **_SHORT)
        run = tiny_run(Path("run"), config)
        train_supervised(config, run)
        run.close()
    (folder / "run" / "checkpoints" / "previous.pt").unlink()


def _resume(folder: Path) -> None:
    """Go on with a finished run: all of its checkpoint is read, and nothing is trained unless it says so."""
    with chdir(folder), patch.dict(os.environ, REIDKIT_CACHE=str(folder / "cache")):
        run = RunFolder.open(Path("run"))
        try:
            train_supervised(tiny_config("people.csv", **_SHORT), run, resume=True)
        finally:
            run.close()


READERS: dict[str, Reader] = {
    "weights, zip": Reader(lambda f: torch.save(state(), f / "new.pt"), _read_weights, changes=change_state),
    "weights, old": Reader(_write_legacy, _read_weights),
    "weights, safetensors": Reader(_write_weights, _read_weights),
    "model": Reader(
        lambda f: torch.save(state(), f / "new.pt"), lambda f: load_model(f / "new.pt"), changes=change_state
    ),
    "exported files": Reader(_write_exported, _read_exported),
    "run's checkpoint": Reader(_write_run_checkpoint, lambda f: RunFolder(f).load_checkpoint(), "checkpoints/*"),
    "run to go on with": Reader(_write_begun, _resume, "run/checkpoints/last.pt", share=0.1),
}
