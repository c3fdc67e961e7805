"""`reidkit extract` and `reidkit search` on many images: pace, memory, a kill, and what a hundred new images cost.

    python -m benchmarks.inference [--images 10000] [--gallery 5000] [--backbone vit_small_ics] [--output FILE.json]

Images are generated pedestrians, JPEGs of 128 x 64, copied as often as needed. The bare model works on tensors in
memory; its mean pace right before and right after the whole extraction is the measure for it.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pipeline import bare_extraction
from reidkit.datasets import load_dataset
from reidkit.loop import build_model, create_fabric
from reidkit.loop.device import place
from reidkit.runs import resolve_config
from reidkit.synthetic import SyntheticConfig, make_synthetic

SIZE = (256, 128)
_POLL = 0.25  # seconds


def make_images(folder: Path, count: int) -> None:
    """`count` images in one folder."""
    people = SyntheticConfig(train_identities=100, test_identities=2, images_per_camera=1, distractors=0)
    make_synthetic(folder.parent / "people", people)
    paths = load_dataset(str(folder.parent / "people")).train.paths
    folder.mkdir()
    for number in range(count):
        shutil.copy(paths[number % len(paths)], folder / f"{number:06d}.jpg")


def save_model(path: Path, backbone: str) -> None:
    """A checkpoint with random weights."""
    config = resolve_config([{"backbone": {"name": backbone, "image_size": SIZE}}])
    model = build_model(config.backbone, 1)
    torch.save({"model": model.state_dict(), "retrieval": "after_neck", "config": config.model_dump_json()}, path)


def bare_pace(backbone: str, batch_size: int, batches: int) -> float:
    """Images/s of the model alone."""
    config = resolve_config([{"backbone": {"name": backbone, "image_size": SIZE}}])
    fabric, model = create_fabric("auto", "auto"), build_model(config.backbone, 1)
    place(fabric, model)
    tensors = [torch.randn(batch_size, 3, *SIZE, device=fabric.device) for _ in range(batches)]
    bare_extraction(fabric, model, tensors[:1])
    start = time.perf_counter()
    bare_extraction(fabric, model, tensors)
    return batch_size * batches / (time.perf_counter() - start)


def command(*words: str, kill_after: float | None = None) -> tuple[float, list[int]]:
    """Seconds of a command, and its memory in MiB, polled; or of its beginning, then killed."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "reidkit", *words], stdout=subprocess.DEVNULL)
    memory = []
    while process.poll() is None:
        time.sleep(_POLL)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        memory += [int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")]
        if kill_after is not None and time.perf_counter() - started > kill_after:
            process.send_signal(signal.SIGKILL)
    process.wait()
    return time.perf_counter() - started, memory


def extraction(folder: Path, model: Path, backbone: str, count: int, scratch: Path) -> dict[str, Any]:
    """The whole extraction, and one that is killed in its middle."""
    few = scratch / "few"
    few.mkdir()
    for path in sorted(folder.iterdir())[:8]:
        shutil.copy(path, few)
    overhead, _ = command("extract", str(model), str(few), "-o", str(scratch / "few.npz"))
    before = bare_pace(backbone, 64, 6)
    seconds, memory = command("extract", str(model), str(folder), "-o", str(scratch / "whole.npz"))
    pace = (before + bare_pace(backbone, 64, 6)) / 2
    working = memory[len(memory) // 4 :]
    _, _ = command("extract", str(model), str(folder), "-o", str(scratch / "killed.npz"), kill_after=seconds / 2)
    rest, _ = command("extract", str(model), str(folder), "-o", str(scratch / "killed.npz"))
    with np.load(scratch / "whole.npz") as whole, np.load(scratch / "killed.npz") as killed:
        equal = bool((whole["features"] == killed["features"]).all())
    return {
        "images": count,
        "seconds": round(seconds, 1),
        "start of the command, seconds": round(overhead, 1),
        "images/s without the start": round(count / (seconds - overhead), 1),
        "bare images/s": round(pace, 1),
        "share of the bare pace": round(count / (seconds - overhead) / pace, 3),
        "memory after a quarter and at the end, MiB": [working[0], working[-1]],
        "largest memory, MiB": max(memory),
        "killed half-way: seconds of the rest": round(rest, 1),
        "killed and restarted gives the same features": equal,
    }


def gallery(folder: Path, model: Path, count: int, scratch: Path) -> dict[str, Any]:
    """A gallery that grows by a hundred images."""
    place_of = scratch / "gallery"
    place_of.mkdir()
    images = sorted(folder.iterdir())
    for path in images[:count]:
        shutil.copy(path, place_of)
    search = ("search", str(model), "--query", str(images[0]), "--gallery", str(place_of))
    first, _ = command(*search)
    again, _ = command(*search)
    for number, path in enumerate(images[:100]):
        shutil.copy(path, place_of / f"new_{number:03d}.jpg")
    grown, _ = command(*search)
    return {
        "gallery": count,
        "first search, seconds": round(first, 1),
        "second": round(again, 1),
        "after 100 new images": round(grown, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="extract and search")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=5_000)
    parser.add_argument("--backbone", default="vit_small_ics")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["REIDKIT_CACHE"] = str(scratch / "cache")
        make_images(scratch / "images", options.images)
        save_model(scratch / "model.pt", options.backbone)
        figures: dict[str, Any] = {
            "backbone": options.backbone,
            "extract": extraction(scratch / "images", scratch / "model.pt", options.backbone, options.images, scratch),
            "search": gallery(scratch / "images", scratch / "model.pt", options.gallery, scratch),
        }
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
