"""Gain of self-distillation: the frozen feature before and after, and USL from it against USL from scratch.

    python -m benchmarks.pretraining --data DIR [--more DIR] [--seeds 1 2] [--output FILE.json]

Both runs of USL have the same images, steps, batches and backbone. The one from scratch has its own recipe, usl/small,
whose first epochs are a warm-up without labels; a second one has the settings of the other, usl/small-pretrained, and
the warm-up.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.demo_figures import Lines
from reidkit.loop.model import inherited_settings
from reidkit.pretrain import train_pretrain
from reidkit.runs import RunFolder, read_recipe, resolve_config
from reidkit.usl import train_usl

Settings = dict[str, Any]


def run(train: Any, folder: Path, *layers: Settings) -> tuple[list[float], float]:
    """MAP of every evaluation of a run, in per cent, and its seconds."""
    config, start = resolve_config(layers), time.perf_counter()
    history = train(config, RunFolder.create(folder, config), progress=Lines())
    return [record.scores["mAP"] for record in history if record.scores], time.perf_counter() - start


def measure(data: str, more: list[str], seed: int, scratch: Path) -> Settings:
    """All figures of one seed."""
    common: Settings = {"data": {"target": data}, "augmentation": {"flip": 0.0}, "seed": seed}
    start = scratch / "pretrain"
    probed, seconds = run(
        train_pretrain, start, read_recipe("pretrain/small"), common, {"pretrain": {"more": tuple(more)}}
    )
    inherited = inherited_settings(str(start))
    tuned = read_recipe("usl/small-pretrained")
    budget = {"training": tuned["training"], "evaluation": {"every": 5}}
    random = {"backbone": inherited["backbone"]}
    warm = {"warmup": read_recipe("usl/small")["warmup"]}
    weights = {"backbone": {"pretrained": str(start)}}
    after, _ = run(train_usl, scratch / "after", tuned, common, inherited, weights, budget)
    own, _ = run(train_usl, scratch / "own", read_recipe("usl/small"), common, random, budget)
    same, _ = run(train_usl, scratch / "same", tuned, common, random, warm, budget)
    return {
        "frozen, untrained": round(probed[0], 1),
        "frozen, pre-trained": round(probed[-1], 1),
        "pre-training, seconds": round(seconds),
        "usl, pre-trained": round(after[-1], 1),
        "usl, from scratch, usl/small": round(own[-1], 1),
        "usl, from scratch, settings of the pre-trained": round(same[-1], 1),
        "usl, epochs": tuned["training"]["epochs"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what pre-training is worth")
    parser.add_argument("--data", required=True)
    parser.add_argument("--more", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    figures: Settings = {"seeds": {}}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            figures["seeds"][seed] = measure(options.data, options.more, seed, Path(scratch))
        print(seed, json.dumps(figures["seeds"][seed]), flush=True)
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
