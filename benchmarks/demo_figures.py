"""The figures of the demonstration: that it is won by learning, that there is something to win, and that it is won.

    python -m benchmarks.demo_figures [--seeds 1 2 3] [--ground-truth-epochs 60] [--output FILE.json]

Prints, in per cent mAP on the generated set `synthetic`: the best stripe histogram (no learning), the untrained
backbone, the last evaluation of `reidkit usl` for each seed, and the same loop with ground truth in place of
pseudo-labels (for as many epochs as asked, of which the warm-up's are as many as in the recipe).
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

from benchmarks.synthetic_honesty import histogram_scores
from reidkit.datasets import ReIDDataset, load_dataset
from reidkit.loop import (
    Benchmark,
    ClusterStage,
    EpochLabels,
    Features,
    ImageSet,
    Progress,
    Trainer,
    build_model,
    cluster_fields,
    create_fabric,
    read_split,
    train,
)
from reidkit.runs import EpochRecord, RunConfig, RunFolder, read_recipe, resolve_config
from reidkit.usl.training import train_usl, usl_stages


class Lines(Progress):
    """A line per evaluated epoch."""

    def end_epoch(self, record: EpochRecord) -> None:
        """Print it."""
        if record.scores:
            print(f"  epoch {record.epoch:3}  mAP {record.scores['mAP']:.1f}", flush=True)


class KnownClusters(ClusterStage):
    """Identities as clusters."""

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Return the identities."""
        return EpochLabels(self.images.split.identities, "clusters")


def read(dataset: ReIDDataset, config: RunConfig) -> dict[str, ImageSet]:
    """Train, query and gallery images."""
    splits = {"train": dataset.train, "query": dataset.query, "gallery": dataset.gallery}
    size, strict = config.backbone.image_size, config.data.strict
    return {name: read_split(split, name, size, strict=strict, progress=Progress()) for name, split in splits.items()}


def train_on_ground_truth(config: RunConfig, folder: Path) -> list[EpochRecord]:
    """The loop of `reidkit usl` with the target's identities as its clusters."""
    fabric = create_fabric(config.training.device, config.training.precision)
    target = read(load_dataset(config.data.target), config)
    source = read(load_dataset(config.warmup.source), config)["train"]
    trainer = Trainer(fabric, build_model(config.backbone, config.seed), config, Lines())
    *before, _ = usl_stages(target["train"], source, trainer)
    stages = [*before, KnownClusters(images=target["train"], **cluster_fields(trainer))]
    benchmark = Benchmark((target["query"], target["gallery"]))
    return train(trainer, stages, benchmark, RunFolder.create(folder, config))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the figures of the demonstration")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--ground-truth-epochs", type=int, default=60, help="0 leaves the ground truth out")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    recipe = read_recipe("usl/synthetic")
    figures: dict[str, Any] = {"usl": {}, "seconds": {}}
    images = load_dataset(resolve_config([recipe]).data.target).train.paths
    figures["histogram"] = 100 * max(histogram_scores(Path(images[0]).parents[1]).values())
    print(f"best stripe histogram {figures['histogram']:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            print(f"usl, seed {seed}", flush=True)
            config, start = resolve_config([recipe, {"seed": seed}]), time.perf_counter()
            run = RunFolder.create(Path(scratch) / f"usl-{seed}", config)
            history = train_usl(config, run, progress=Lines())
            figures["untrained"] = history[0].scores["mAP"]
            figures["usl"][seed] = history[-1].scores["mAP"]
            figures["seconds"][seed] = round(time.perf_counter() - start)
        if epochs := options.ground_truth_epochs:
            print(f"ground truth, {epochs} epochs", flush=True)
            config = resolve_config([recipe, {"training": {"epochs": epochs}}])
            history = train_on_ground_truth(config, Path(scratch) / "truth")
            figures["ground truth"] = {"epochs": epochs, "mAP": history[-1].scores["mAP"]}
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
