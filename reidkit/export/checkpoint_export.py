"""Trained models for other programs.

| format        | holds                                    | takes                         | read by               |
|---------------|------------------------------------------|-------------------------------|-----------------------|
| onnx          | a graph and its weights                  | `images`, RGB in [0, 1]       | onnxruntime, TensorRT |
| torchscript   | the same                                 | the same                      | `torch.jit.load`      |
| safetensors   | weights: `backbone.NAME`, `bottleneck.*` | images normalised by mean/std | reidkit, others       |
| transreid-ssl | weights, as that public code saves them  | images normalised by mean/std | that code, reidkit    |

The graphs normalise images inside, so that it cannot be forgotten. They take float32 in [0, 1], which every runtime
accepts and `ToTensor` yields, and return `features` (B, D), L2-normalised, for any B.

What a caller has to do first and where the feature is taken is recorded as strings: in ONNX's `metadata_props`,
safetensors' `__metadata__`, TorchScript's extra file `METADATA_FILE` (JSON), beside `state_dict` in transreid-ssl's.

transreid-ssl follows the checkpoint. With a feature after the neck (USL, UDA) it is what a USL run saves:
`module.NAME`, `module.bottleneck.*`, `epoch`, `best_mAP` (0 where unknown). With one before the neck it is what a
supervised run saves: `base.NAME`, `bottleneck.*` and no metadata, as that code takes every key for a weight. The
classifier is in neither: no retrieval needs it, and that code ignores it too.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reidkit.__about__ import __version__
from reidkit.errors import CheckpointError, ConfigError, RunError
from reidkit.export.checks import GRAPHS, SUFFIXES, Format, check_model, check_output, compare_features, real_images
from reidkit.export.graphs import encode_onnx, encode_torchscript, open_onnx, open_torchscript
from reidkit.export.weight_files import encode_safetensors, encode_transreid, open_safetensors, open_transreid
from reidkit.loop import TrainedModel, load_model
from reidkit.storage import atomic_write

__all__ = ["Exported", "export_checkpoint"]

TOLERANCE = 1e-4
"""Largest difference of any number of a feature between the checkpoint and an exported file."""

_VERIFIED = 16  # random images, and as many real ones at most

_FORMATS = {
    "onnx": (encode_onnx, open_onnx),
    "safetensors": (encode_safetensors, open_safetensors),
    "torchscript": (encode_torchscript, open_torchscript),
    "transreid-ssl": (encode_transreid, open_transreid),
}


class Exported(NamedTuple):
    """A file that was written and verified."""

    path: Path
    difference: float
    """Largest absolute difference of any number of a feature from the checkpoint's, at most `TOLERANCE`."""
    random_images: int
    """Images of noise that it was verified on."""
    real_images: int
    """Images from files that it was verified on."""
    metadata: dict[str, str]
    """Recorded in the file."""


def export_checkpoint(
    checkpoint: Path,
    file_format: Format,
    output: Path | None = None,
    *,
    verify: Path | None = None,
    data_root: Path | None = None,
    cameras: bool = True,
) -> Exported:
    """Write a checkpoint's model in another format, verified before the file gets its name.

    The file's features are compared with the checkpoint's on 16 images of noise and up to 16 real ones, in batches of
    `BATCH_SIZES`, in float32 on the processor. Weights (safetensors, transreid-ssl) must be read back identical too. A
    model trained on two domains is exported with the batch statistics of its target.

    Args:
        checkpoint: A run folder or a weight file, as `load_model` takes it.
        file_format: One of `Format`.
        output: The file, replaced if it exists; None is the checkpoint's name and the format's suffix, in the working
            folder.
        verify: A folder, table or data set with real images; None takes those of the run's target if they are there.
        data_root: Folder of the data sets.
        cameras: False exports a model with camera embeddings as one that knows no camera; without it, ONNX and
            TorchScript refuse such a model.

    Raises:
        CheckpointError: The checkpoint cannot be read, its model cannot be exported, or the file's features are others;
            an existing file is then as it was.
        ConfigError: The file's suffix is that of another format, or a package is missing.
        DataError: The file cannot be written, or `verify` has no readable image.
        RunError: The disk is full.
    """
    # Checks that need no export
    if output is None:
        name = checkpoint.resolve().name
        stem = name if checkpoint.is_dir() else re.sub(r"(\.(pth|pt|tar|safetensors|bin))+$", "", name)
        output = Path(stem + SUFFIXES[file_format][0])
    check_output(output, file_format)
    trained = load_model(checkpoint)
    if output.resolve() == trained.path.resolve():
        raise ConfigError(f"{output} is the checkpoint itself; name another file with -o")
    trained.model.eval().requires_grad_(False)
    check_model(trained, file_format, cameras)

    # Export, and comparison with the checkpoint
    noise = np.random.default_rng(0).integers(0, 256, (_VERIFIED, 3, *trained.model.image_size), dtype=np.uint8)
    real = real_images(trained, verify, data_root, _VERIFIED)
    metadata = _describe(trained, file_format)
    encode, open_file = _FORMATS[file_format]
    data = encode(trained, metadata)
    try:
        with tempfile.TemporaryDirectory(prefix=".reidkit-", dir=output.parent) as folder:
            draft = Path(folder) / f"model{SUFFIXES[file_format][0]}"
            with atomic_write(draft) as file:
                file.write(data)
            difference = compare_features(trained, open_file(draft, trained), np.concatenate([noise, real]))
            if not difference <= TOLERANCE:  # nor NaN
                raise CheckpointError(
                    f"the features of the {file_format} file differ from those of {trained.path} by up to "
                    f"{difference:.1e}, more than {TOLERANCE:.0e}; {output} was not written. Take another format, and "
                    "report this with the backbone's name"
                )
            draft.replace(output)
    except OSError as error:
        raise RunError(
            f"{output} could not be written ({error.strerror or error}); free some space or name another file with -o"
        ) from error
    return Exported(output, difference, len(noise), len(real), metadata)


def _describe(trained: TrainedModel, file_format: Format) -> dict[str, str]:
    """Describe how to use the file; lists and objects are JSON, paths of this machine are left out."""
    model, config, path = trained.model, trained.config, trained.path.resolve()
    colours = {"mean": config.data.mean, "std": config.data.std}
    backbone = config.backbone.model_dump(mode="json", exclude={"pretrained"}, exclude_none=True)
    is_graph = file_format in GRAPHS
    return {
        "reidkit": __version__,
        "checkpoint": "/".join(path.parts[-3 if path.parent.name == "checkpoints" else -1 :]),
        "backbone": config.backbone.name,
        "input": f"images, float32 (batch, 3, height, width), values in [0, 1]{'' if is_graph else ', normalised'}",
        "image_size": json.dumps(model.image_size),
        "channels": "RGB",
        "resize": "bicubic, antialiased, to image_size whatever the aspect ratio (Pillow: Image.resize, BICUBIC)",
        **{name: json.dumps(colour) for name, colour in colours.items()},
        "normalisation": f"(images - mean) / std, {'inside the model' if is_graph else 'before the model'}",
        "output": f"features, float32 (batch, {model.feature_dim}), {'' if is_graph else 'to be '}L2-normalised",
        "retrieval": model.retrieval,
        "cameras": "0" if is_graph else str(model.sie_cameras),
        "config": json.dumps({"backbone": backbone, "data": colours}),
    }
