"""Does CFS find the images that are like the target, and is half of the data enough?

    python -m benchmarks.selection [--people 800] [--others 800] [--epochs 12] [--seeds 1]
                                   [--kinds noise texture shapes scrambled] [--domain FOLDER] [--output FILE.json]

A mixture of generated pedestrians and of images of other kinds (noise, textures, shapes, images of another domain) is
pre-trained on; the model is gently fine-tuned on labelled pedestrians of another set; `select_images` ranks the
mixture. The share of pedestrians that the kept half holds stands beside that of a random half. Then a second model is
pre-trained on the kept half alone, for as many epochs and so half the steps, and both are fine-tuned alike. The kind
"scrambled" are the pedestrians themselves, their 8 x 8 tiles in random places.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.demo_figures import Lines
from reidkit.datasets import load_dataset
from reidkit.loop import create_fabric, load_model
from reidkit.loop.model import inherited_settings
from reidkit.pretrain import select_images, train_pretrain
from reidkit.runs import RunFolder, read_recipe, resolve_config
from reidkit.supervised import train_supervised
from reidkit.synthetic import SyntheticConfig, make_synthetic

Settings = dict[str, Any]


class Kind(Protocol):
    """Makes an image that is no pedestrian; is given one, for its size or its pixels."""

    __name__: str

    def __call__(self, rng: np.random.Generator, person: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """An image of the pedestrian's shape (H, W, 3)."""


SIZE = (64, 32)


def make_mixture(folder: Path, people: int, others: int, seed: int, kinds: Sequence[Kind]) -> None:
    """`people` pedestrians in person_*.png and `others` images of other kinds, in turns, in other_*.png."""
    source = SyntheticConfig(
        train_identities=-(-people // 8),
        test_identities=2,
        cameras=4,
        images_per_camera=2,
        distractors=0,
        seed=50 + seed,
    )
    make_synthetic(folder.parent / "source", source)
    folder.mkdir()
    paths = load_dataset(str(folder.parent / "source")).train.paths[:people]
    rng = np.random.default_rng(seed)
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            small = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)
        small.save(folder / f"person_{number:05d}.png")
        if number < others:
            Image.fromarray(kinds[number % len(kinds)](rng, np.asarray(small))).save(folder / f"other_{number:05d}.png")


def noise(rng: np.random.Generator, person: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Independent pixels."""
    return rng.integers(0, 256, person.shape, dtype=np.uint8)


def texture(rng: np.random.Generator, person: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Smooth colours at a random scale."""
    coarse = rng.integers(0, 256, (rng.integers(2, 12), rng.integers(2, 8), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(person.shape[1::-1], Image.Resampling.BICUBIC))


def shapes(rng: np.random.Generator, person: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ellipses and boxes of random colours."""
    image = Image.new("RGB", person.shape[1::-1], tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 9)):
        left, top = rng.integers(0, person.shape[1]), rng.integers(0, person.shape[0])
        box = [int(left), int(top), int(left + rng.integers(3, 24)), int(top + rng.integers(3, 24))]
        kind = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        kind(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1)))))


def scrambled(rng: np.random.Generator, person: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A person's 8 x 8 tiles in random places: the right colours, no body."""
    height, width = person.shape[0] // 8, person.shape[1] // 8
    tiles = person.reshape(height, 8, width, 8, 3).swapaxes(1, 2).reshape(-1, 8, 8, 3)
    tiles = tiles[rng.permutation(len(tiles))].reshape(height, width, 8, 8, 3)
    return np.ascontiguousarray(tiles.swapaxes(1, 2).reshape(person.shape))


class Domain:
    """Images of another data set, in turns."""

    def __init__(self, target: str) -> None:
        self.__name__ = "domain"
        self._paths = cycle(load_dataset(target).train.paths)

    def __call__(self, rng: np.random.Generator, person: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The next one, in the size of the pedestrians."""
        with Image.open(next(self._paths)) as image:
            return np.asarray(image.convert("RGB").resize(person.shape[1::-1], Image.Resampling.BICUBIC))


KINDS: dict[str, Kind] = {kind.__name__: kind for kind in (noise, texture, shapes, scrambled)}


def run(train: Any, folder: Path, *layers: Settings) -> float:
    """The last mAP of a run, in per cent."""
    config = resolve_config(layers)
    history = train(config, RunFolder.create(folder, config), progress=Lines())
    return float(history[-1].scores["mAP"])


def measure(options: argparse.Namespace, seed: int, scratch: Path) -> Settings:
    """All figures of one seed."""
    mixture = scratch / "mixture"
    kinds = [*(KINDS[name] for name in options.kinds), *([Domain(options.domain)] if options.domain else [])]
    make_mixture(mixture, options.people, options.others, seed, kinds)
    common: Settings = {"seed": seed, "data": {"target": str(mixture)}, "training": {"epochs": options.epochs}}
    probe: Settings = {"pretrain": {"probe": "synthetic"}, "evaluation": {"every": options.epochs}}
    pretrain = (read_recipe("pretrain/synthetic"), common, probe)
    figures: Settings = {"frozen, all": run(train_pretrain, scratch / "all", *pretrain)}

    recipe = read_recipe("supervised/synthetic")
    about = {"seed": seed, "training": {"epochs": options.tuning}, "evaluation": {"every": options.tuning}}

    def fine_tune(start: str) -> float:
        weights = [inherited_settings(str(scratch / start)), {"backbone": {"pretrained": str(scratch / start)}}]
        return run(train_supervised, scratch / f"{start}-tuned", recipe, about, *weights)

    scratch_settings = {"backbone": inherited_settings(str(scratch / "all"))["backbone"]}
    figures["fine-tuned, not pre-trained"] = run(
        train_supervised, scratch / "none-tuned", recipe, about, scratch_settings
    )
    figures["fine-tuned, all"] = fine_tune("all")
    gentle: Settings = {"optimizer": {"learning_rate": 1e-4}, "schedule": {"factor": 1.0}}
    run(
        train_supervised,
        scratch / "gentle",
        recipe,
        {"seed": seed, "training": {"epochs": 1}, "evaluation": {"every": 2}, "supervised": gentle},
        inherited_settings(str(scratch / "all")),
        {"backbone": {"pretrained": str(scratch / "all")}},
    )
    models = load_model(scratch / "all"), load_model(scratch / "gentle" / "checkpoints" / "last.pt")
    names = sorted(path.name for path in mixture.iterdir())
    people = sum(name.startswith("person") for name in names)
    for direction in ("high", "low"):
        listing = scratch / f"{direction}.txt"
        fabric = create_fabric("auto", "32")
        kept = select_images(
            fabric, *models, mixture, names, listing, listing.with_suffix(".parquet"), direction=direction
        ).kept_names
        found = sum(name.startswith("person") for name in kept)
        figures[f"people kept, {direction}"] = found / people
        others = [kinds[int(name[6:11]) % len(kinds)].__name__ for name in kept if name.startswith("other")]
        figures[f"others kept, {direction}"] = {kind.__name__: others.count(kind.__name__) for kind in kinds}
    chance = np.random.default_rng(seed).choice(names, len(names) // 2, replace=False)
    figures["people kept, random"] = sum(name.startswith("person") for name in chance) / people
    chosen: Settings = {"pretrain": {"list": str(scratch / "high.txt")}}
    figures["frozen, half"] = run(train_pretrain, scratch / "half", *pretrain, chosen)
    figures["fine-tuned, half"] = fine_tune("half")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="CFS on a mixture")
    parser.add_argument("--people", type=int, default=800)
    parser.add_argument("--others", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["noise", "texture", "shapes"])
    parser.add_argument("--domain", default="", help="a data set whose training images are one more kind")
    parser.add_argument("--tuning", type=int, default=6, help="epochs of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    figures: Settings = {"people": options.people, "others": options.others, "epochs": options.epochs, "seeds": {}}
    figures["kinds"] = [*options.kinds, *(["domain"] if options.domain else [])]
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            figures["seeds"][seed] = measure(options, seed, Path(scratch))
        print(seed, json.dumps(figures["seeds"][seed]), flush=True)
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
