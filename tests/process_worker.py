"""One of the processes of test_distributed.py: trains, and writes what the run looked like if it leads."""

import atexit
import json
import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from reidkit.clustering import JaccardDBSCAN
from reidkit.distributed import ProcessGroup
from reidkit.errors import Interrupted, ReidkitError, RunError
from reidkit.loop import Progress, trainer, training
from reidkit.pretrain import train_pretrain
from reidkit.runs import RunFolder, resolve_config
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.injected_faults import Stopping
from tests.tiny import SETTINGS

TRAIN: dict[str, Any] = {
    "usl": train_usl,
    "supervised": train_supervised,
    "uda": train_uda,
    "pretrain": train_pretrain,
}
PLACES: dict[str, tuple[Any, str]] = {
    "extract": (trainer, "extract"),
    "label": (JaccardDBSCAN, "fit"),
    "train": (training, "train_epoch"),
    "save": (RunFolder, "save_checkpoint"),
}
RANK = int(os.environ.get("RANK", "0"))


def fail(folder: Path, place: str, how: str) -> None:
    """Let this process end at a place when it comes there for the second time."""
    owner, name = PLACES[place]
    original: Callable[..., Any] = getattr(owner, name)
    visits = iter(range(100))

    def ending(*arguments: Any, **options: Any) -> Any:
        if next(visits) == 1:
            (folder / "died").write_text(str(time.time()))
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RunError(f"process {RANK} cannot {place}; free some space")
        return original(*arguments, **options)

    setattr(owner, name, ending)


def note_clusterings(folder: Path) -> None:
    """Write the number of processes that share every clustering that this process takes part in."""
    fit = JaccardDBSCAN.fit

    def noting(self: JaccardDBSCAN, *arguments: Any) -> JaccardDBSCAN:
        with (folder / f"clustered_{RANK}").open("a") as file:
            file.write(f"{ProcessGroup.of(self.group).size} ")
        return fit(self, *arguments)

    setattr(JaccardDBSCAN, "fit", noting)  # noqa: B010  (mypy)


def main(options: Namespace) -> None:
    """Train in a run folder of this process, of which only that of the first is filled."""
    folder: Path = options.folder
    if options.fail and int(options.fail[1]) == RANK:
        fail(folder, options.fail[0], options.fail[2])
    mode, _, strategy = options.mode.partition("-")
    layers: list[dict[str, Any]] = [
        SETTINGS,
        {
            "mode": mode,
            "data": {"target": options.target, "source": options.source},
            "training": {"epochs": options.epochs, "iterations": 7},
            "optimizer": {"name": "sgd", "learning_rate": 3.5e-4},
            "clustering": {"eps": 0.6},
            # At 0.05 the few, alike features of this model turn the last bits of a float into a thousandth of a loss,
            # and which of two images is the hardest may hang on them.
            "memory": {"temperature": 0.5, "update": "mean"},
            "sampler": {"batch_size": 16, "instances": 2},
            "supervised": {
                "epochs": 1,
                "iterations": 4,
                "batch_size": 16,
                "instances": 2,
                "optimizer": {"name": "sgd", "learning_rate": 0.01},
            },
            "uda": {"strategy": strategy if mode == "uda" and strategy else "finetune"},
            # In parts BatchNorm would see other images together: a backbone without.
            "backbone": {
                "name": "vit_tiny" if strategy == "parts" else "vit_tiny_ics",
                "depth": 2 if options.drop_path else 1,  # the first block drops nothing
                "drop_path": options.drop_path,
            },
            "pretrain": {
                "outputs": 24,
                "hidden": 16,
                "bottleneck": 8,
                "iterations": 7,
                "parts": 2 if strategy == "parts" else 1,
            },
            "crops": {"local_crops": 2, "local_size": (16, 16)},
        },
    ]
    config = resolve_config(layers)
    # The first process stops the run where it is asked to: the other hears of it.
    progress = Stopping(options.stop) if options.stop and RANK == 0 else Progress()
    history = TRAIN[mode](config, RunFolder(folder), progress=progress, resume=options.resume)
    if RANK == 0:
        labels = []
        for path in sorted((folder / "labels").glob("*.npz")):
            with np.load(path) as stored:
                labels.append(stored["labels"].tolist())
        trained = [record for record in history if record.loss is not None]
        found = {"losses": [record.loss for record in trained], "images": [record.images for record in trained]}
        (folder / "metrics.json").write_text(json.dumps(found | {"labels": labels}))


def note_end(folder: Path) -> None:
    """Leave a file if this process ends in no process group."""
    if not dist.is_initialized():
        (folder / f"left_{RANK}").touch()


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("target", "source", "mode"):
        parser.add_argument(name)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--drop-path", type=float, default=0.0)
    parser.add_argument("--stop", type=int, help="the step after which the run is asked to stop")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--fail", nargs=3, metavar=("PLACE", "RANK", "HOW"))
    given = parser.parse_args()
    note_clusterings(given.folder)
    for part in ("labels", "checkpoints"):
        (given.folder / part).mkdir(parents=True, exist_ok=True)
    atexit.register(note_end, given.folder)
    try:
        main(given)
    except Interrupted as stop:
        sys.exit(stop.exit_code)
    except ReidkitError as error:
        sys.exit(f"Error: {error}")
