"""Time of augmentation and multi-crop per batch, against torchvision's v2 operations with the same parameters.

    python -m benchmarks.augmentation [--batch-size 64] [--rounds 7] [--threads 2] [--clock wall] [--output FILE.json]

A batch of generated pedestrians of 256 x 128 pixels is augmented on the processor: by the default recipe of training
(flip, pad and crop, erasing), by it with colour jitter, and by DINO's 2 + 8 crops. torchvision gets the parameters that
ours have drawn and works image by image, on bytes or on floats, in one thread with all cores inside its operations or
in as many threads as cores with one core each; its fastest way counts. Ours and all of them take turns, round by round;
the ratios of a round count. Where others use the machine, `--threads 1 --clock cpu` measures the processor's time in
one thread. `difference` is the mean distance of the results on floats, which is rounding, in values from 0 to 1.
"""

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from reidkit.datasets import (
    AugmentationConfig,
    CropConfig,
    apply_augmentation,
    apply_crops,
    decode_images,
    draw_augmentation,
    draw_crops,
    load_dataset,
)
from reidkit.synthetic import SyntheticConfig, make_synthetic

SIZE = (256, 128)
MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
COLOURS = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
RECIPES = {
    "augmentation": AugmentationConfig(),
    "augmentation with colours": AugmentationConfig(brightness=0.3, contrast=0.3, saturation=0.3),
}


def make_batch(folder: Path, count: int) -> Tensor:
    """`count` generated pedestrians, (B, 3, 256, 128) uint8."""
    people = SyntheticConfig(
        train_identities=count, images_per_camera=1, distractors=0, test_identities=2, height=SIZE[0], width=SIZE[1]
    )
    make_synthetic(folder, people)
    return torch.from_numpy(decode_images(load_dataset(str(folder)).train.paths[:count], SIZE).pixels)


def augmented(image: Tensor, drawn: Any, index: int, config: AugmentationConfig, *, floats: bool) -> Tensor:
    """One image as `apply_augmentation` changes it, by torchvision."""
    shown = tv.to_dtype(image, torch.float32, scale=True) if floats else image
    shown = tv.horizontal_flip(shown) if drawn.flip[index] else shown
    shown = tv.crop(tv.pad(shown, [config.pad] * 4), *drawn.offset[index].tolist(), *SIZE)
    if config.brightness:
        shown = tv.adjust_brightness(shown, float(drawn.gain[index, 0]))
        shown = tv.adjust_contrast(shown, float(drawn.contrast[index]))
        shown = tv.adjust_saturation(shown, float(drawn.saturation[index]))
    shown = tv.normalize(tv.to_dtype(shown, torch.float32, scale=True), list(MEAN), list(STD))
    result: Tensor = tv.erase(shown, *drawn.box[index].tolist(), torch.tensor(config.erasing_fill)[:, None, None])
    return result


def cropped(image: Tensor, drawn: Any, view: int, index: int, *, floats: bool) -> Tensor:
    """One view of an image as `apply_crops` makes it, by torchvision."""
    box, sigma, size = drawn.box[view, index].tolist(), float(drawn.sigma[view, index]), list(drawn.size)
    shown = tv.to_dtype(image, torch.float32, scale=True) if floats else image
    shown = tv.resized_crop(shown, *box, size, InterpolationMode.BICUBIC, antialias=True)
    shown = shown.clamp(0, 1) if floats else shown
    shown = tv.horizontal_flip(shown) if drawn.flip[view, index] else shown
    if drawn.factors[0, view, index] != 1:
        for operation in drawn.order[view]:
            shown = COLOURS[operation](shown, float(drawn.factors[operation, view, index]))
    shown = tv.rgb_to_grayscale(shown, 3) if drawn.grey[view, index] else shown
    if sigma:
        shown = tv.gaussian_blur(shown, [2 * math.floor(3 * sigma) + 1] * 2, [sigma] * 2)
    shown = tv.solarize(shown, 128 / 255 if floats else 128) if drawn.solarise[view, index] else shown
    result: Tensor = tv.normalize(tv.to_dtype(shown, torch.float32, scale=True), list(MEAN), list(STD))
    return result


def over_images(one: Callable[[int], Tensor], count: int, threads: int) -> Tensor:
    """Apply `one` to every image: in turn with all cores inside an operation, or in threads of one core each."""
    if threads == 1:
        return torch.stack([one(index) for index in range(count)])
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(one, range(count)))
    torch.set_num_threads(cores)
    return torch.stack(results)


class Contest(NamedTuple):
    """How both sides are measured."""

    threads: int
    rounds: int
    clock: Callable[[], float]

    def seconds(self, work: Callable[[], Any]) -> float:
        """Time of one call."""
        start = self.clock()
        work()
        return self.clock() - start

    def run(self, ours: Callable[[], Any], theirs: Callable[[bool, int], Any]) -> dict[str, Any]:
        """Median milliseconds of a batch, and the median ratio of the rounds."""
        ways = {
            f"torchvision, {'floats' if floats else 'bytes'}, {workers} thread{'s' * (workers > 1)}": (floats, workers)
            for floats in (True, False)
            for workers in sorted({1, self.threads})
        }
        rows: list[list[float]] = []
        for number in range(self.rounds + 1):  # the first warms up
            times = [self.seconds(ours), *(self.seconds(partial(theirs, *way)) for way in ways.values())]
            rows += [times] if number else []
        medians = [1000 * statistics.median(column) for column in zip(*rows, strict=True)]
        best = 1 + min(range(len(ways)), key=lambda way: medians[1 + way])
        ratios = [row[best] / row[0] for row in rows]
        return {
            "ms": dict(zip(["ours", *ways], (round(median, 1) for median in medians), strict=True)),
            "fastest": list(ways)[best - 1],
            "times faster": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
            "difference": float(f"{distance(ours(), theirs(True, 1)):.1e}"),
        }


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Mean absolute difference."""
    return float(np.mean([(one - other).abs().mean().item() for one, other in zip(ours, theirs, strict=True)]))


def recipe_contest(batch: Tensor, config: AugmentationConfig, contest: Contest) -> dict[str, Any]:
    """The augmentation of training."""
    drawn = draw_augmentation(len(batch), SIZE, np.random.default_rng(0), config)

    def theirs(floats: bool, workers: int) -> list[Tensor]:
        return [
            over_images(lambda index: augmented(batch[index], drawn, index, config, floats=floats), len(batch), workers)
        ]

    return contest.run(lambda: [apply_augmentation(batch, drawn, config, mean=MEAN, std=STD)], theirs)


def crop_contest(batch: Tensor, contest: Contest) -> dict[str, Any]:
    """DINO's crops."""
    drawn = draw_crops(len(batch), SIZE, np.random.default_rng(0), CropConfig())

    def theirs(floats: bool, workers: int) -> list[Tensor]:
        def views(index: int, part: int) -> Tensor:
            number = len(drawn[part].flip)
            return torch.stack(
                [cropped(batch[index], drawn[part], view, index, floats=floats) for view in range(number)], 0
            )

        return [
            over_images(lambda index, part=part: views(index, part), len(batch), workers).transpose(0, 1)  # type: ignore[misc]  # mypy knows no such default
            for part in range(2)
        ]

    return contest.run(lambda: [apply_crops(batch, part, mean=MEAN, std=STD) for part in drawn], theirs)


def processor() -> str:
    """Its name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="augmentation against torchvision")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        batch = make_batch(Path(scratch) / "people", options.batch_size)
    contest = Contest(
        options.threads, options.rounds, time.perf_counter if options.clock == "wall" else time.process_time
    )
    facts: dict[str, Any] = {name: recipe_contest(batch, config, contest) for name, config in RECIPES.items()}
    facts["multi-crop"] = crop_contest(batch, contest)
    facts |= {
        "batch size": options.batch_size,
        "image size": SIZE,
        "threads": options.threads,
        "clock": options.clock,
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(json.dumps(facts, indent=1))
    if options.output:
        options.output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
