"""Digests of small runs of every mode: versions that print the same lines train the same, bit for bit.

    python -m benchmarks.digest [--modes usl uda ...] [--processes 1 2] [--output FILE.json]

Each mode trains for three small epochs on generated people, as a user types it; with two processes, under torchrun, of
one thread each. A digest is the SHA-256 of the metrics (but for times) and of the weights, optimiser state, labels and
features that the run folder holds. Only commands and files are used, so that an older version can be asked too.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

_BACKBONE = {
    "name": "vit_tiny_ics",
    "image_size": [32, 16],
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "drop_path": 0.2,
}
_SETTINGS: dict[str, Any] = {
    "backbone": _BACKBONE,
    "augmentation": {"pad": 2},
    "sampler": {"batch_size": 16, "instances": 4},
    "clustering": {"eps": 0.5, "k1": 8, "k2": 2, "min_samples": 2},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "supervised": {"batch_size": 16, "instances": 2, "iterations": 4, "schedule": {"warmup_epochs": 0}},
    "training": {"epochs": 3, "iterations": 4, "device": "cpu", "precision": "32"},
    "evaluation": {"every": 1},
}
MODES: dict[str, dict[str, Any]] = {
    "usl": {"warmup": {"epochs": 0}},
    "usl-warmup": {"warmup": {"epochs": 1}},
    "usl-hdbscan": {"warmup": {"epochs": 0}, "clustering": {"method": "hdbscan", "min_cluster_size": 2}},
    "uda": {"supervised": {"epochs": 1}, "uda": {"strategy": "finetune"}},
    "uda-joint": {"supervised": {"epochs": 1}, "uda": {"strategy": "joint"}},
    "supervised": {},
    "supervised-centroids": {"supervised": {"criterion": "centroids"}},
    "pretrain": {
        "sampler": {"batch_size": 8, "instances": 1},
        "pretrain": {"outputs": 24, "hidden": 16, "bottleneck": 8, "iterations": 4, "warmup_epochs": 1},
        "crops": {"local_crops": 2, "local_size": [16, 16]},
    },
}
"""Settings over the common ones; what follows a hyphen is a variant of the mode."""
_DATA = {"pretrain": "--data", "supervised": "--dataset"}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description="Digests of small runs")
    parser.add_argument("--modes", nargs="*", choices=list(MODES), default=list(MODES))
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    digests = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, name in enumerate(("people", "others")):
            _make_people(Path(scratch) / name, seed)
        for mode in options.modes:
            for processes in options.processes:
                key = f"{mode} on {processes}"
                digests[key] = digest(train(mode, processes, Path(scratch)))
                print(key, digests[key], flush=True)
    if options.output:
        options.output.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def train(mode: str, processes: int, scratch: Path) -> Path:
    """Train a mode to its end; returns the run folder."""
    command, folder = mode.partition("-")[0], scratch / f"{mode}-{processes}"
    arguments = [command, _DATA.get(command, "--target"), str(scratch / "people"), "--output", str(folder)]
    if command == "uda":
        arguments += ["--source", str(scratch / "others")]
    config = scratch / f"{mode}.toml"
    config.write_text("\n".join(_toml(_merge(_SETTINGS, MODES[mode]))), encoding="utf-8")
    _reidkit([*arguments, "--config", str(config)], scratch, processes)
    return folder


def digest(folder: Path) -> str:
    """SHA-256 of all that a run has learned and measured."""
    sha = hashlib.sha256()
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for name, value in _contents(folder, [json.loads(line) for line in lines]):
        sha.update(name.encode())
        if isinstance(value, torch.Tensor | np.ndarray):
            array = np.ascontiguousarray(value.numpy() if isinstance(value, torch.Tensor) else value)
            sha.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        else:
            sha.update(repr(value).encode())
    return sha.hexdigest()[:16]


def _contents(folder: Path, metrics: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Metrics, model, heads, optimiser, labels and features by their names."""
    yield from _flat("metrics", metrics)
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    for part in ("model", "heads", "optimizer"):
        yield from _flat(part, state[part])
    for path in sorted([*folder.glob("labels/*.npz"), *folder.glob("features.npz")]):
        with np.load(path) as arrays:
            yield from _flat(path.name, {name: arrays[name] for name in arrays.files if name != "paths"})


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values of nested containers by their path, but for what was measured in time."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            if key not in ("seconds", "cpu_seconds", "images_per_second"):
                yield from _flat(f"{name}/{key}", value[key])
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}/{index}", inner)
    else:
        yield name, value


def _make_people(folder: Path, seed: int) -> None:
    sizes = {"train-identities": 8, "test-identities": 4, "cameras": 3, "images-per-camera": 2, "distractors": 4}
    shape = {"height": 32, "width": 16, "seed": seed}
    options = [f"--{name}={value}" for name, value in (sizes | shape).items()]
    _reidkit(["data", "make", str(folder), *options], folder.parent, 1)


def _reidkit(arguments: list[str], scratch: Path, processes: int) -> None:
    """Run `reidkit ARGUMENTS` on a number of processes, one thread each."""
    launch = [sys.executable, "-m", "reidkit"]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0", "--standalone"]
        launch = [sys.executable, *torchrun, "-m", "reidkit"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "REIDKIT_CACHE": str(scratch / "cache"),
    }
    done = subprocess.run([*launch, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"reidkit {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in over.items() if isinstance(value, dict) and key in base}
    return base | over | both


def _toml(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Lines of a table; JSON's scalars and arrays are TOML's."""
    if prefix:
        yield f"[{prefix}]"
    yield from (f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict))
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml(value, f"{prefix}.{key}" if prefix else key)


if __name__ == "__main__":
    main()
