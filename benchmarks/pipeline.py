"""How much of the bare model's images/s the pipeline delivers: decode, store, augmentation, extraction, training step.

    python -m benchmarks.pipeline [--backbone vit_small_ics] [--images 512] [--batch-size 64] [--rounds 5]
                                  [--device auto] [--precision auto] [--compile] [--output FILE.json]

The bare model works on tensors that lie on the device already. Bare and piped take turns, round by round, and the
median of the rounds' ratios counts: neither warms the machine up for the other. Images are generated pedestrians,
written as JPEGs of the model's input size.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import apply_augmentation, decode_images, draw_augmentation, list_stores, load_dataset, normalise
from reidkit.loop import (
    ClusterStage,
    Epoch,
    EpochLabels,
    Features,
    ImageSet,
    Learning,
    Progress,
    Trainer,
    build_model,
    cluster_fields,
    create_fabric,
    extract,
    read_split,
    train_epoch,
)
from reidkit.runs import RunConfig, resolve_config
from reidkit.synthetic import SyntheticConfig, make_synthetic

SIZE = (256, 128)


def make_images(folder: Path, count: int) -> ImageSet:
    """`count` images of generated people, and their store."""
    people = SyntheticConfig(
        train_identities=-(-count // 8),
        test_identities=2,
        cameras=4,
        images_per_camera=2,
        distractors=0,
        height=SIZE[0],
        width=SIZE[1],
    )
    make_synthetic(folder / "people", people)
    split = load_dataset(str(folder / "people")).train
    split = split.subset(np.arange(len(split)) < count)
    return read_split(split, "benchmark", SIZE, strict=True, progress=Progress())


def rate(images: int, work: Callable[[], object], device: torch.device) -> float:
    """Images per second of one call."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - start)


def turns(
    images: int, bare: Callable[[], object], piped: Callable[[], object], rounds: int, device: torch.device
) -> Any:
    """Images/s of both, and the median ratio of neighbouring rounds."""
    rates = []
    for number in range(rounds + 1):  # the first warms up
        pair = [rate(images, work, device) for work in (bare, piped)]
        rates += [pair] if number else []
    return {
        "bare": round(statistics.median(pair[0] for pair in rates), 1),
        "piped": round(statistics.median(pair[1] for pair in rates), 1),
        "share": round(statistics.median(piped / bare for bare, piped in rates), 3),
        "shares": [round(piped / bare, 3) for bare, piped in rates],
    }


def bare_extraction(fabric: Fabric, model: EmbeddingModel, batches: list[Tensor]) -> None:
    """Features of tensors that lie on the device."""
    model.eval()
    with torch.inference_mode(), fabric.autocast():
        for batch in batches:
            model.embed(batch)


def extraction(fabric: Fabric, model: EmbeddingModel, images: ImageSet, config: RunConfig, rounds: int) -> Any:
    """Extraction from the store against the bare model."""
    ready = normalise(torch.from_numpy(images.pixels[:].copy()), config.data.mean, config.data.std).to(fabric.device)
    batches = list(torch.split(ready, config.evaluation.batch_size))
    return turns(
        len(images.split),
        partial(bare_extraction, fabric, model, batches),
        lambda: extract(fabric, model, images, config, Progress()),
        rounds,
        fabric.device,
    )


class ChosenBatches(ClusterStage):
    """Batches of random images, whose clusters are eights of neighbours."""

    def label(self, features: Features | None, number: int) -> EpochLabels:
        """Number the eights."""
        return EpochLabels(np.arange(len(self.images.split)) // 8, "clusters")

    def batches(self, labels: EpochLabels, number: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Return the same batches in every epoch."""
        return iter(chosen_batches(self.images, self.learning))


def chosen_batches(images: ImageSet, learning: Learning) -> NDArray[np.int64]:
    """Rows (steps, B) of random images."""
    return np.random.default_rng(1).integers(0, len(images.split), (learning.iterations, learning.batch_size))


def training(trainer: Trainer, images: ImageSet, rounds: int) -> Any:
    """Training steps from the store, augmented, against steps on one tensor."""
    fabric, config, count = trainer.fabric, trainer.config, len(images.split)
    stage = ChosenBatches(images=images, **cluster_fields(trainer))
    features = np.random.default_rng(0).standard_normal((count, trainer.model.feature_dim)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    trainer.set_up(None, stage.learning.optimizer)
    labels = stage.label(None, 1)
    criterion = stage.criterion(features, labels)
    chosen = chosen_batches(images, stage.learning)[0]
    ready = normalise(torch.from_numpy(images.pixels[chosen]), config.data.mean, config.data.std).to(fabric.device)
    targets = torch.from_numpy(labels.labels[chosen]).to(fabric.device)

    def bare() -> None:
        trainer.network.train()
        for _ in range(stage.learning.iterations):
            trainer.optimizer.zero_grad()
            embeddings = trainer.network(ready)
            loss = criterion(embeddings, targets)
            loss.item()
            fabric.backward(loss)
            trainer.optimizer.step()
            criterion.update(embeddings, targets)

    def piped() -> None:
        epoch = Epoch(1, stage)
        epoch.labels, epoch.criterion = labels, criterion
        train_epoch(trainer, epoch)

    return turns(stage.learning.iterations * stage.learning.batch_size, bare, piped, rounds, fabric.device)


def parts(images: ImageSet, config: RunConfig, fabric: Fabric) -> dict[str, float]:
    """Images/s of the pipeline's parts alone."""
    device, size, rng = fabric.device, config.sampler.batch_size, np.random.default_rng(0)
    rows = rng.integers(0, len(images.split), (8, size))
    pixels = torch.from_numpy(images.pixels[rows[0]]).to(device)

    def augmented() -> None:
        for _ in rows:
            drawn = draw_augmentation(size, SIZE, rng, config.augmentation)
            apply_augmentation(pixels, drawn, config.augmentation, mean=config.data.mean, std=config.data.std)

    work: dict[str, tuple[int, Callable[[], object]]] = {
        "decode": (len(images.split), lambda: decode_images(images.split.paths, SIZE)),
        "store": (rows.size, lambda: [images.pixels[chosen] for chosen in rows]),
        "augmentation": (rows.size, augmented),
    }
    rates: dict[str, float] = {}
    for name, (count, call) in work.items():
        rate(count, call, device)
        rates[name] = round(statistics.median(rate(count, call, device) for _ in range(3)))
    return rates


def flops_per_image(model: EmbeddingModel, device: torch.device) -> float:
    """Floating-point operations of one forward pass, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *SIZE, device=device))
    return float(counter.get_total_flops())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the pipeline against the bare model")
    parser.add_argument("--backbone", default="vit_small_ics")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    config = resolve_config(
        [
            {
                "backbone": {"name": options.backbone, "image_size": SIZE},
                "sampler": {"batch_size": options.batch_size, "instances": 8},
                "evaluation": {"batch_size": options.batch_size},
                "training": {"iterations": options.steps, "skip_limit": 0, "compile": options.compile},
            }
        ]
    )
    fabric = create_fabric(options.device, options.precision)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["REIDKIT_CACHE"] = scratch
        images = make_images(Path(scratch), options.images)
        again = time.perf_counter()
        read_split(images.split, "benchmark", SIZE, strict=True, progress=Progress())
        reopened = time.perf_counter() - again
        trainer = Trainer(fabric, build_model(config.backbone, 1), config, Progress())
        model = trainer.model
        figures: dict[str, Any] = {
            "backbone": options.backbone,
            "image size": SIZE,
            "images": len(images.split),
            "batch size": options.batch_size,
            "compiled": options.compile,
            "images/s": parts(images, config, fabric),
            "store": {
                "GiB": round(list_stores(Path(scratch) / "images")[0].bytes / 2**30, 3),
                "opened in s": round(reopened, 3),
            },
            "extraction": extraction(fabric, model, images, config, options.rounds),
            "training": training(trainer, images, options.rounds),
            "GFLOP per image, forward": round(flops_per_image(model, fabric.device) / 1e9, 2),
        }
    figures |= {
        "precision": str(fabric.strategy.precision.precision),
        "device": torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "cpu",
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    for name, share in (("extraction", 1), ("training", 3)):  # a backward pass takes twice a forward one
        figures[name]["TFLOP/s"] = round(figures[name]["piped"] * share * figures["GFLOP per image, forward"] / 1e3, 3)
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
