"""One of the processes of test_team.py: trains, and writes what the run looked like if it leads."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from reidkit.loop import RunFolder, resolve_config
from reidkit.pretrain import train_pretrain
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.tiny import SETTINGS

TRAIN: dict[str, Any] = {
    "usl": train_usl,
    "supervised": train_supervised,
    "uda": train_uda,
    "pretrain": train_pretrain,
}


def main(folder: Path, target: str, source: str, wanted: str) -> None:
    """Train in a run folder of this process, of which only that of the first is filled."""
    from torch.distributed import is_initialized

    mode, _, strategy = wanted.partition("-")
    layers: list[dict[str, Any]] = [
        SETTINGS,
        {
            "mode": mode,
            "data": {"target": target, "source": source},
            "training": {"epochs": 3, "iterations": 7},
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
            "backbone": {"name": "vit_tiny" if strategy == "parts" else "vit_tiny_ics"},
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
    history = TRAIN[mode](config, RunFolder(folder))
    if is_initialized():
        from torch.distributed import destroy_process_group, get_rank

        leads = get_rank() == 0
        destroy_process_group()
    else:
        leads = True
    if leads:
        labels = []
        for path in sorted((folder / "labels").glob("*.npz")):
            with np.load(path) as stored:
                labels.append(stored["labels"].tolist())
        trained = [record for record in history if "loss" in record]
        found = {"losses": [record["loss"] for record in trained], "images": [record["images"] for record in trained]}
        (folder / "metrics.json").write_text(json.dumps(found | {"labels": labels}))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for part in ("labels", "checkpoints"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    main(folder, *sys.argv[2:5])
