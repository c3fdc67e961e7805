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
classifier is in neither: no retrieval needs it, and that code passes it over too.
"""

import io
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit.__about__ import __version__
from reidkit.backbones import (
    NECK,
    EmbeddingModel,
    infer_architecture,
    is_own_vit,
    load_weights,
    read_checkpoint,
    to_supervised_layout,
    to_usl_layout,
)
from reidkit.datasets import SYNTHETIC, Colour, cache_folder, decode_images, load_dataset, normalise
from reidkit.errors import CheckpointError, ConfigError, ReidkitError, RunError
from reidkit.loop import TrainedModel, build_model, load_model
from reidkit.runs import RunConfig
from reidkit.storage import atomic_write, check_writable

__all__ = ["BATCH_SIZES", "METADATA_FILE", "TOLERANCE", "Exported", "Format", "export_checkpoint"]

Format = Literal["onnx", "safetensors", "torchscript", "transreid-ssl"]

TOLERANCE = 1e-4
"""Largest difference of any number of a feature between the checkpoint and an exported file."""

BATCH_SIZES = (1, 5, 16)
"""Images in a batch at which an exported file is verified."""

METADATA_FILE = "reidkit.json"
"""The extra file of a TorchScript archive that holds the metadata."""

_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "safetensors": (".safetensors",),
    "torchscript": (".pt", ".ts", ".torchscript"),
    "transreid-ssl": (".pth", ".tar", ".pt"),
}
_GRAPHS = ("onnx", "torchscript")
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_VERIFIED = 16  # random images, and as many real ones at most

_Runner = Callable[[Tensor], NDArray[np.float32]]
"""Images (B, 3, H, W), RGB in [0, 1], to features (B, D), as a reader of the file computes them."""
_Encoder = Callable[[TrainedModel, Mapping[str, str]], bytes]
_Opener = Callable[[Path, TrainedModel], _Runner]


class Exported(NamedTuple):
    """A file that was written and verified."""

    path: Path
    difference: float
    """Largest absolute difference of any number of a feature from the checkpoint's, at most `TOLERANCE`."""
    random_images: int
    real_images: int
    """How many images of noise and from files it was verified on."""
    metadata: dict[str, str]
    """What is recorded in the file."""


class _Retriever(nn.Module):
    """Images in [0, 1] to retrieval features: the normalisation and the model, as one graph."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: EmbeddingModel, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D), L2-normalised, of images (B, 3, H, W)."""
        return self.model.embed((images - self.mean) / self.std)


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
        data_root: Where data sets lie.
        cameras: False exports a model with camera embeddings as one that knows no camera; without it, ONNX and
            TorchScript refuse such a model.

    Raises:
        CheckpointError: The checkpoint cannot be read, its model cannot be exported, or the file's features are others;
            an existing file is then as it was.
        ConfigError: The file's suffix is that of another format, or a package is missing.
        DataError: The file cannot be written, or `verify` has no readable image.
        RunError: The disk is full.
    """
    output = output or _default_output(checkpoint, file_format)
    _check_output(output, file_format)
    trained = load_model(checkpoint)
    if output.resolve() == trained.path.resolve():
        raise ConfigError(f"{output} is the checkpoint itself; name another file with -o")
    trained.model.eval().requires_grad_(False)
    _check_model(trained, file_format, cameras)
    noise = np.random.default_rng(0).integers(0, 256, (_VERIFIED, 3, *trained.model.image_size), dtype=np.uint8)
    real = _real_images(trained, verify, data_root)
    metadata = _describe(trained, file_format)
    encode, open_file = _WAYS[file_format]
    data = encode(trained, metadata)
    try:
        with tempfile.TemporaryDirectory(prefix=".reidkit-", dir=output.parent) as folder:
            draft = Path(folder) / f"model{_SUFFIXES[file_format][0]}"
            with atomic_write(draft) as file:
                file.write(data)
            difference = _compare(trained, open_file(draft, trained), np.concatenate([noise, real]))
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


def _default_output(checkpoint: Path, file_format: Format) -> Path:
    name = checkpoint.resolve().name
    stem = name if checkpoint.is_dir() else re.sub(r"(\.(pth|pt|tar|safetensors|bin))+$", "", name)
    return Path(stem + _SUFFIXES[file_format][0])


def _check_output(output: Path, file_format: Format) -> None:
    """Refuse what cannot work before any file is read."""
    suffixes = _SUFFIXES[file_format]
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


def _check_model(trained: TrainedModel, file_format: Format, cameras: bool) -> None:
    """Refuse a model that the format has no place for."""
    model, settings = trained.model, trained.config.backbone
    if file_format in _GRAPHS and model.sie_cameras and cameras:
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


def _describe(trained: TrainedModel, file_format: Format) -> dict[str, str]:
    """What a user of the file has to know; lists and objects are JSON, paths of this machine are kept out."""
    model, config, path = trained.model, trained.config, trained.path.resolve()
    colours = {"mean": config.data.mean, "std": config.data.std}
    backbone = config.backbone.model_dump(mode="json", exclude={"pretrained"}, exclude_none=True)
    is_graph = file_format in _GRAPHS
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


def _real_images(trained: TrainedModel, verify: Path | None, data_root: Path | None) -> NDArray[np.uint8]:
    """Up to 16 images (n, 3, H, W): those asked for, else the target's if they are at hand, else none."""
    size, target = trained.model.image_size, str(verify or trained.config.data.target)
    if verify is None and target in SYNTHETIC:  # not to be generated for this
        folder = cache_folder() / "synthetic"
        target = str(next(folder.glob(f"{target}-*"), folder / target))
    try:
        dataset = load_dataset(target, data_root)
        paths = [*dataset.train.paths, *dataset.query.paths, *dataset.gallery.paths]
        images = decode_images(paths[:: max(1, len(paths) // _VERIFIED)][:_VERIFIED], size)
    except (ReidkitError, OSError):
        if verify is not None:
            raise
        return np.empty((0, 3, *size), dtype=np.uint8)
    return images.pixels[images.readable]


def _compare(trained: TrainedModel, run: _Runner, pixels: NDArray[np.uint8]) -> float:
    """Largest absolute difference of the features of images (N, 3, H, W), over all batch sizes; NaN if any is."""
    images, data = torch.from_numpy(pixels), trained.config.data
    with torch.inference_mode():
        batches = torch.split(images, max(BATCH_SIZES))
        expected = torch.cat([trained.model.embed(normalise(batch, data.mean, data.std)) for batch in batches]).numpy()
        found = [np.concatenate([run(batch / 255) for batch in torch.split(images, size)]) for size in BATCH_SIZES]
    return float(np.abs(np.stack(found) - expected).max())


def _encode_onnx(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    from onnx import helper

    def export() -> Any:
        return torch.onnx.export(
            *_with_example(trained),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )

    model = _graph(trained, "onnx", export).model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]  # the exporter leaves its stack traces there, with the paths of this machine
    helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def _open_onnx(file: Path, _: TrainedModel) -> _Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["features"], {"images": images.numpy()})[0]


def _encode_torchscript(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    file = io.BytesIO()
    with _outdated():
        trace: Callable[..., Any] = torch.jit.trace
        traced = _graph(trained, "torchscript", lambda: trace(*_with_example(trained), check_trace=False))
        torch.jit.save(traced, file, _extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    return file.getvalue()


def _open_torchscript(file: Path, _: TrainedModel) -> _Runner:
    with _outdated():
        module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    return lambda images: module(images).numpy()


@contextmanager
def _outdated() -> Iterator[None]:
    """Keep back PyTorch's advice to leave TorchScript, and its notes on checks of shapes, which are fixed here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


def _graph(trained: TrainedModel, file_format: Format, export: Callable[[], Any]) -> Any:
    """What an exporter makes of the model; some of timm's do what exporters do not understand."""
    try:
        return export()
    except Exception as error:  # of any kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"PyTorch could not export {trained.config.backbone.name!r} of {trained.path} as {file_format} ({reason}); "
            "take another format"
        ) from error


def _with_example(trained: TrainedModel) -> tuple[nn.Module, tuple[Tensor]]:
    """What is exported, and a batch that it is tried on: of two, as one would be taken for a constant."""
    retriever = _Retriever(trained.model, trained.config.data.mean, trained.config.data.std).eval()
    return retriever, (torch.zeros(2, 3, *trained.model.image_size),)


def _used_weights(model: EmbeddingModel) -> dict[str, Tensor]:
    """All but a neck that retrieval does not use; without one, a reader takes the feature before it."""
    used = model.retrieval == "after_neck"
    return {name: tensor for name, tensor in model.state_dict().items() if used or not name.startswith(NECK)}


def _encode_safetensors(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    state = {name: tensor.contiguous() for name, tensor in _used_weights(trained.model).items()}
    return bytes(safetensors.torch.save(state, dict(metadata)))


def _open_safetensors(file: Path, trained: TrainedModel) -> _Runner:
    """Build the model from what the file says of itself."""
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata: dict[str, str] = opened.metadata()
    config = RunConfig.model_validate_json(metadata["config"])
    model = build_model(config.backbone, trained.config.seed)
    load_weights(model, file)
    if metadata["retrieval"] == "before_neck":
        model.retrieval = "before_neck"
    return _run_weights(file, trained, model)


def _encode_transreid(trained: TrainedModel, metadata: Mapping[str, str]) -> bytes:
    file = io.BytesIO()
    if trained.model.retrieval == "after_neck":
        history = read_checkpoint(trained.path).get("history") or [{"epoch": 0}]
        best = max((record["mAP"] for record in history if "mAP" in record), default=0.0) / 100
        torch.save(to_usl_layout(trained.model, epoch=history[-1]["epoch"], best_map=best) | dict(metadata), file)
    else:
        torch.save(to_supervised_layout(trained.model), file)
    return file.getvalue()


def _open_transreid(file: Path, trained: TrainedModel) -> _Runner:
    return _run_weights(file, trained, load_model(file).model)


def _run_weights(file: Path, trained: TrainedModel, model: EmbeddingModel) -> _Runner:
    """Make sure that a model read back has the same weights, those that its features do not show too."""
    read = model.eval().state_dict()
    for name, tensor in _used_weights(trained.model).items():
        if not torch.equal(tensor, read[name]):
            raise CheckpointError(f"{name} of {trained.path} is not the same when read back from {file}; report this")
    retriever = _Retriever(model, trained.config.data.mean, trained.config.data.std)
    return lambda images: retriever(images).numpy()


_WAYS: dict[Format, tuple[_Encoder, _Opener]] = {
    "onnx": (_encode_onnx, _open_onnx),
    "safetensors": (_encode_safetensors, _open_safetensors),
    "torchscript": (_encode_torchscript, _open_torchscript),
    "transreid-ssl": (_encode_transreid, _open_transreid),
}
