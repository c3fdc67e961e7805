"""UDA's figures: the target before and after adaptation, and the source, for each seed and strategy.

    python -m benchmarks.adaptation [--recipe uda/synthetic-b] [--source DATA --target DATA] [--seeds 1 2 3]
                                    [--strategies finetune joint] [--output FILE.json]

The first strategy trains both stages; the others start from its source's checkpoint, so that all adapt one model.
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
from reidkit.runs import EpochRecord, RunFolder, read_recipe, resolve_config
from reidkit.uda import train_uda

Layers = list[dict[str, Any]]


def adapt(layers: Layers, folder: Path) -> tuple[list[EpochRecord], float]:
    """A run's records and its seconds."""
    config, start = resolve_config(layers), time.perf_counter()
    history = train_uda(config, RunFolder.create(folder, config), progress=Lines())
    return history, time.perf_counter() - start


def figures_of(history: list[EpochRecord]) -> dict[str, float]:
    """MAP of the target before and after, of the source after and, if this run trained on it, before; in per cent."""
    *adapted, last = [record for record in history if record.others]
    before = adapted[0] if adapted else history[0]
    figures = {"target before": before.scores["mAP"], "target after": last.scores["mAP"]}
    figures |= {"source before": _source(before)} if adapted else {}
    figures["source after"] = _source(last)
    return {name: round(value, 2) for name, value in figures.items()}


def _source(record: EpochRecord) -> float:
    (scores,) = record.others.values()
    return float(scores["mAP"])


def measure(layers: Layers, strategies: list[str], scratch: Path) -> dict[str, Any]:
    """Figures of each strategy for one seed."""
    results: dict[str, Any] = {}
    first = scratch / strategies[0]
    for strategy in strategies:
        chosen: dict[str, Any] = {"strategy": strategy}
        over: Layers = [{"uda": chosen}]
        if strategy != strategies[0]:
            chosen["source_checkpoint"] = str(first / "checkpoints" / "source.pt")
            config = resolve_config(layers)
            over.append({"training": {"epochs": config.training.epochs - config.supervised.epochs}})
        history, seconds = adapt([*layers, *over], scratch / strategy)
        results[strategy] = figures_of(history) | {"seconds": round(seconds)}
        print(strategy, results[strategy], flush=True)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="UDA before and after")
    parser.add_argument("--recipe", default="uda/synthetic-b")
    parser.add_argument("--source")
    parser.add_argument("--target")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--strategies", nargs="*", default=["finetune"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    data = {name: value for name, value in (("source", options.source), ("target", options.target)) if value}
    figures: dict[str, Any] = {"recipe": options.recipe, "seeds": {}}
    for seed in options.seeds:
        print(f"seed {seed}", flush=True)
        layers: Layers = [read_recipe(options.recipe), {"data": data, "seed": seed}]
        with tempfile.TemporaryDirectory() as scratch:
            figures["seeds"][seed] = measure(layers, options.strategies, Path(scratch))
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
