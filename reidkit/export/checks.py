"""Checks before an export, and the comparison of the features after it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reidkit.backbones import infer_architecture, is_own_vit
from reidkit.datasets import SYNTHETIC, cache_folder, decode_images, load_dataset, normalise
from reidkit.errors import CheckpointError, ConfigError, ReidkitError
from reidkit.export.graphs import Runner
from reidkit.loop import TrainedModel
from reidkit.storage import check_writable

__all__ = [
    "BATCH_SIZES",
    "GRAPHS",
    "SUFFIXES",
    "Format",
    "check_model",
    "check_output",
    "compare_features",
    "real_images",
]

Format = Literal["onnx", "safetensors", "torchscript", "transreid-ssl"]
"""Formats of exported files."""

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "safetensors": (".safetensors",),
    "torchscript": (".pt", ".ts", ".torchscript"),
    "transreid-ssl": (".pth", ".tar", ".pt"),
}
"""The first is that of a file without a name."""

GRAPHS = ("onnx", "torchscript")
"""Formats that hold the model and the normalisation as one graph; the others hold weights."""

BATCH_SIZES = (1, 5, 16)
"""Images in a batch at which an exported file is verified."""

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_output(output: Path, file_format: Format) -> None:
    """Check suffix, packages and folder of an export before any file is read.

    Raises:
        ConfigError: The suffix is that of another format, or a package is missing.
        DataError: The file cannot be written.
    """
    suffixes = SUFFIXES[file_format]
    if output.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{output} has the suffix {output.suffix!r}; files of format {file_format} end in {' or '.join(suffixes)}"
        )
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if file_format == "onnx" and missing:
        raise ConfigError(
            f"format onnx needs {', '.join(_PACKAGES)}; {', '.join(missing)} is not installed: "
            "pip install 'reidkit[onnx]'"
        )
    check_writable(output)


def check_model(trained: TrainedModel, file_format: Format, cameras: bool) -> None:
    """Check that a format can hold a model.

    Raises:
        CheckpointError: It cannot.
    """
    model, settings = trained.model, trained.config.backbone
    if file_format in GRAPHS and model.sie_cameras and cameras:
        raise CheckpointError(
            f"{trained.path} has embeddings of {model.sie_cameras} cameras; {file_format} takes images alone: export "
            "it with --no-cameras as a model to which every camera is unknown, or as safetensors"
        )
    if file_format != "transreid-ssl":
        return
    if not is_own_vit(settings.name):
        raise CheckpointError(
            f"{trained.path} is of {settings.name!r}, which format transreid-ssl has no names for: it holds vit_tiny, "
            "vit_small and vit_base, with _ics or without; take onnx or safetensors"
        )
    stored = infer_architecture(model.backbone.state_dict())
    own = (settings.num_heads or stored["num_heads"], *model.image_size)
    seen = (stored["num_heads"], *stored["image_size"])
    if own != seen:
        raise CheckpointError(
            "{} has {} attention heads and images of {}x{}; format transreid-ssl records neither, and its readers "
            "would take {} heads and {}x{}: take onnx or safetensors".format(trained.path, *own, *seen)
        )


def real_images(trained: TrainedModel, verify: Path | None, data_root: Path | None, most: int) -> NDArray[np.uint8]:
    """Read up to `most` images (N, 3, H, W): those asked for, else the target's where they are stored, else none."""
    size, target = trained.model.image_size, str(verify or trained.config.data.target)
    if verify is None and target in SYNTHETIC:  # not to be generated for this
        folder = cache_folder() / "synthetic"
        target = str(next(folder.glob(f"{target}-*"), folder / target))
    try:
        dataset = load_dataset(target, data_root)
        paths = [*dataset.train.paths, *dataset.query.paths, *dataset.gallery.paths]
        images = decode_images(paths[:: max(1, len(paths) // most)][:most], size)
    except (ReidkitError, OSError):
        if verify is not None:
            raise
        return np.empty((0, 3, *size), dtype=np.uint8)
    return images.pixels[images.readable]


def compare_features(trained: TrainedModel, run: Runner, pixels: NDArray[np.uint8]) -> float:
    """Return the largest difference of the features of images (N, 3, H, W), over all batch sizes; NaN if any is."""
    images, data = torch.from_numpy(pixels), trained.config.data
    with torch.inference_mode():
        batches = torch.split(images, max(BATCH_SIZES))
        expected = torch.cat([trained.model.embed(normalise(batch, data.mean, data.std)) for batch in batches]).numpy()
        found = [np.concatenate([run(batch / 255) for batch in torch.split(images, size)]) for size in BATCH_SIZES]
    return float(np.abs(np.stack(found) - expected).max())
