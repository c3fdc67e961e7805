"""Reading weight files safely, and loading them strictly."""

import logging
import re
import warnings
from collections.abc import Container, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from reidkit.backbones.embedding import EmbeddingModel
from reidkit.backbones.formats import NECK, Layout, StoredWeights, infer_architecture, is_skipped, split_checkpoint
from reidkit.backbones.positions import resize_position_embedding
from reidkit.errors import CheckpointError

__all__ = ["LoadReport", "load_weights", "read_checkpoint"]

_log = logging.getLogger(__name__)

_OPTIONAL = {"gem.p", "sie_embed"}  # weights of others have neither GeM nor camera embeddings
_POSITIONS = "pos_embed"
_SHOWN = 5


class LoadReport(NamedTuple):
    """Result of `load_weights`."""

    file: Path
    layout: Layout
    """Layout of the file; see `reidkit.backbones.formats`."""
    positions_resized: bool
    """Whether the position embedding was resized to another grid of patches."""
    fresh: tuple[str, ...]
    """Weights that the file does not have: `bottleneck`, reset to its initial values; `gem.p` and `sie_embed`, left as
    they are."""
    skipped: tuple[str, ...]
    """Names in the file (without `module.`) left out on purpose: heads, classifiers, a neck that is not loaded."""


class _Placeholder:
    """An object of a published checkpoint that is no weight; torch's restricted unpickler builds this in its place."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_PLACEHOLDERS = [
    (_Placeholder, name)
    for name in (
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.ndarray",
        # numpy 2 renamed the module; files have either name.
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    )
]


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a weight file: tensors on the CPU and plain values, nested as they were saved; nothing in it is executed.

    `.safetensors` files, and torch files of any age. Of other classes a torch file may hold `argparse.Namespace` and
    numpy's numbers and arrays, as published ones do; objects without content take their places.

    Raises:
        CheckpointError: The file is missing, empty, damaged or of another kind, or it asks for code to be run.
    """
    file = Path(path)
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise CheckpointError(
            f"the weight file {file} {state}; give the path of a .pth, .pt, .tar or .safetensors file"
        )
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(file))
        # Warnings say how an old file was written, which its reader cannot change.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([*_PLACEHOLDERS]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in an unpickler
        raise _unreadable(file, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds a {type(content).__name__}, not a dict of weights; save the model's state_dict() instead"
        )
    return dict(content)


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    """Explain why a file could not be read."""
    reason = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    if refused := re.search(r"GLOBAL (\S+)", reason):
        return CheckpointError(
            f"{file} was not read: it asks for {refused[1]!r}, which is code and not weights, and could do anything. "
            "Ask its author for the weights alone: a state_dict() or a .safetensors file"
        )
    start = b"\x00"
    if not isinstance(error, OSError):
        with file.open("rb") as opened:
            start = opened.read(64)
    if not start:
        return CheckpointError(f"{file} is empty; copy or download it again")
    if start.isascii() and "".join(start.decode().split()).isprintable():
        return CheckpointError(
            f"{file} is a text file (it begins {start[:24].decode()!r}), perhaps a web page or a Git LFS pointer in "
            "place of the weights; download it again"
        )
    return CheckpointError(
        f"{file} is damaged or cannot be read safely ({reason.splitlines()[0]}); copy or download it again, or ask its "
        "author for a state_dict()"
    )


def load_weights(model: nn.Module, path: str | PathLike[str], *, hw_ratio: int | None = None) -> LoadReport:
    """Load a checkpoint of any layout of `reidkit.backbones.formats` into a model, whole or not at all.

    Heads, `dist*`, `pre_logits` and classifiers are skipped; every other weight must be in both and of one shape. An
    `EmbeddingModel` takes its neck from USL checkpoints and our own; with the others the neck is reset. Position
    embeddings are resized where the grids differ.

    Args:
        model: A backbone of `create_backbone`, or an `EmbeddingModel`.
        path: The weight file; see `read_checkpoint`.
        hw_ratio: Height over width of the stored grid of patches; None deduces it.

    Raises:
        CheckpointError: The file cannot be read, or a weight is missing, unexpected or of another shape.
    """
    file = Path(path)
    content = read_checkpoint(file)
    backbone, neck = (model.backbone, model.bottleneck) if isinstance(model, EmbeddingModel) else (model, None)

    # Weights by the part of the model, positions on its grid
    try:
        stored = split_checkpoint(content)
        fitted = _fit_positions(stored, backbone, hw_ratio)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None

    # Weights that are left out on purpose, or missing where that is allowed
    takes_neck = neck is not None and stored.layout in ("reidkit", "usl")
    target = backbone.state_dict()
    neck_target = neck.state_dict() if neck is not None and takes_neck else {}
    kept, skipped = _drop_skipped(fitted, target, takes_neck)
    fresh = [] if neck is None or takes_neck else [NECK.rstrip(".")]
    for name in sorted(_OPTIONAL & target.keys() - kept.backbone.keys()):
        kept.backbone[name] = target[name]
        fresh.append(name)

    # Everything else must fit
    problems = [
        *_differences(kept.backbone, target, kept.prefix),
        *_differences(kept.neck, neck_target, NECK),
        *_differences(kept.rest, {}, ""),
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more like these" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{file} ({stored.layout} layout) does not fit the model: {'; '.join(problems[:_SHOWN])}{more}. "
            f"{_advise(content)}"
        )

    # Every value is converted before the first is set: a failure leaves the model unchanged
    try:
        values, neck_values = _convert(kept.backbone, target), _convert(kept.neck, neck_target)
    except RuntimeError as error:  # sparse tensors, or those of the device meta
        raise CheckpointError(f"{file} holds weights that are no plain arrays ({error}); save a dense copy") from error
    backbone.load_state_dict(values)
    if neck is not None:
        neck.reset_parameters()
        neck.load_state_dict(neck_values, strict=takes_neck)
    report = LoadReport(file, stored.layout, fitted is not stored, tuple(fresh), tuple(skipped))
    _log.info(
        "%s: weights loaded (%s layout%s); not in the file: %s; skipped: %s",
        report.file,
        report.layout,
        ", positions resized" if report.positions_resized else "",
        ", ".join(report.fresh) or "none",
        ", ".join(report.skipped) or "none",
    )
    return report


def _fit_positions(stored: StoredWeights, backbone: nn.Module, hw_ratio: int | None) -> StoredWeights:
    """Resize the stored position embedding to the backbone's grid if both have a class token and patches."""
    source, target = stored.backbone.get(_POSITIONS), backbone.state_dict().get(_POSITIONS)
    rows, columns = getattr(getattr(backbone, "patch_embed", None), "grid_size", (0, 0))
    if source is None or target is None or source.ndim != 3 or target.shape[1] != 1 + rows * columns:
        return stored
    resized = resize_position_embedding(source, (rows, columns), hw_ratio)
    return stored if resized is source else stored._replace(backbone=stored.backbone | {_POSITIONS: resized})


def _drop_skipped(stored: StoredWeights, target: Container[str], takes_neck: bool) -> tuple[StoredWeights, list[str]]:
    """Return the weights without those that are skipped on purpose, and the names of these in the file."""
    heads = [name for name in stored.backbone if name not in target and is_skipped(name)]
    others = [name for name in stored.rest if is_skipped(name)]
    neck = [] if takes_neck else list(stored.neck)
    kept = stored._replace(
        backbone={name: tensor for name, tensor in stored.backbone.items() if name not in heads},
        neck={name: tensor for name, tensor in stored.neck.items() if name not in neck},
        rest={name: tensor for name, tensor in stored.rest.items() if name not in others},
    )
    return kept, [stored.prefix + name for name in heads] + others + [NECK + name for name in neck]


def _differences(source: Mapping[str, Tensor], target: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Describe every weight that is missing in the file, unexpected in it, or of another shape than the model's."""
    missing = "(none: it is missing)"
    shapes, wanted = ({name: str(tuple(tensor.shape)) for name, tensor in held.items()} for held in (source, target))
    return [
        f"{prefix}{name} has shape {shapes.get(name, missing)} in the file and {wanted.get(name, missing)} in the model"
        for name in wanted | shapes
        if shapes.get(name) != wanted.get(name)
    ]


def _advise(content: Mapping[str, object]) -> str:
    """Name the backbone that a checkpoint was saved from."""
    try:
        architecture = infer_architecture(content)
    except CheckpointError:
        return "Create the backbone that the file was saved from"
    arguments = ", ".join(f"{key}={value!r}" for key, value in architecture.items())
    return f"The file seems to be of create_backbone({arguments})"


def _convert(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy the file's tensors to the device and number format of the model's."""
    return {name: torch.empty_like(target[name]).copy_(tensor) for name, tensor in source.items()}
