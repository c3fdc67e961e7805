"""The layouts of checkpoints, in both directions.

| layout     | keys of the weights                                        | held under           | neck           |
|------------|------------------------------------------------------------|----------------------|----------------|
| reidkit    | `backbone.NAME`, `bottleneck.*`                            | `model` or nothing   | read           |
| usl        | `NAME`, `bottleneck.*`                                     | `state_dict`         | read           |
| supervised | `base.NAME`, `bottleneck.*`, `classifier.weight`           | nothing              | starts afresh  |
| dino       | `backbone.NAME`, `head.*`                                  | `teacher`            | starts afresh  |
| flat       | `NAME`                                                     | nothing, `model`, .. | starts afresh  |

NAME is timm's name of a backbone's parameter. `module.` may stand before every key (DataParallel).
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from reidkit.backbones.config import BackboneConfig
from reidkit.backbones.embedding import EmbeddingModel
from reidkit.backbones.positions import stored_grid
from reidkit.backbones.stem import STEM_STRIDE
from reidkit.backbones.vit import DEPTH, STEM, WIDTHS, default_heads, is_own_vit
from reidkit.errors import CheckpointError

__all__ = [
    "NECK",
    "Architecture",
    "Layout",
    "StoredWeights",
    "check_settings",
    "infer_architecture",
    "is_skipped",
    "split_checkpoint",
    "to_supervised_layout",
    "to_usl_layout",
]

Layout = Literal["reidkit", "usl", "supervised", "dino", "flat"]

NECK = "bottleneck."
"""What stands before the names of the neck."""

_CONTAINERS = ("model", "state_dict", "teacher")
_PARALLEL = "module."
_SHARED = 4  # times that the numbers of a checkpoint may be used; weights that are tied count twice
_LARGEST = 2**14  # pixels, cameras, heads, blocks; and numbers of a feature
_QKV = re.compile(r"blocks\.\d+\.attn\.qkv\.weight")
_SKIPPED = re.compile(r"head|dist|pre_logits|classifier|fc\.|.*\bsource_(mean|var)$")


class StoredWeights(NamedTuple):
    """The weights of a checkpoint, sorted by what they belong to."""

    layout: Layout
    prefix: str
    """What stood before each of the backbone's names in the file, `module.` apart."""
    backbone: dict[str, Tensor]
    neck: dict[str, Tensor]
    """`weight`, `bias`, ...; empty where the file has no neck."""
    rest: dict[str, Tensor]
    """What is neither, by its name in the file without `module.`: heads, classifiers and the neck's statistics of a
    source domain, if all is well."""


class Architecture(TypedDict):
    """Arguments of `create_backbone`."""

    name: str
    image_size: tuple[int, int]
    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    sie_cameras: NotRequired[int]
    """Only of a ViT with camera embeddings."""


def is_skipped(name: str) -> bool:
    """Say whether weights of this name are left out on purpose where the model has none of the name.

    Heads, `dist*`, `pre_logits`, classifiers, and the source's statistics of a model trained on two domains.
    """
    return _SKIPPED.match(name) is not None


def split_checkpoint(content: Mapping[str, object]) -> StoredWeights:
    """Recognise the layout of a checkpoint and sort its weights.

    Args:
        content: What `read_checkpoint` returns.

    Raises:
        CheckpointError: There are no weights in it.
    """
    container, state = _find_weights(content)
    if all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): tensor for key, tensor in state.items()}
    neck_keys = {key for key in state if key.startswith(NECK) and not is_skipped(key)}
    neck = {key.removeprefix(NECK): tensor for key, tensor in state.items() if key in neck_keys}
    inner = {key: tensor for key, tensor in state.items() if key not in neck_keys}
    layout: Layout
    if any(key.startswith("base.") for key in inner):
        layout, prefix = "supervised", "base."
    elif any(key.startswith("backbone.") for key in inner):
        layout, prefix = ("reidkit" if neck and container != "teacher" else "dino"), "backbone."
    else:
        layout, prefix = ("usl" if neck else "flat"), ""
    return StoredWeights(
        layout=layout,
        prefix=prefix,
        backbone={key.removeprefix(prefix): tensor for key, tensor in inner.items() if key.startswith(prefix)},
        neck=neck,
        rest={key: tensor for key, tensor in inner.items() if not key.startswith(prefix)},
    )


def _find_weights(content: Mapping[str, object]) -> tuple[str, dict[str, Tensor]]:
    """Return the weights and the key that holds them, "" when they lie at the top."""
    for container in _CONTAINERS:
        held = content.get(container)
        if isinstance(held, Mapping) and (state := _tensors(held)):
            return container, state
    if state := _tensors(content):
        return "", state
    keys = ", ".join(repr(key) for key in list(content)[:8]) or "none"
    raise CheckpointError(
        f"there are no weights in the checkpoint: its keys are {keys}; weights lie at the top or under one of "
        f"{', '.join(_CONTAINERS)}"
    )


def _tensors(held: Mapping[str, object]) -> dict[str, Tensor]:
    """The weights among what a checkpoint holds.

    Raises:
        CheckpointError: One is no plain array of numbers that are all there: a shape is what models are built from.
    """
    state = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
    if any(tensor.is_meta for tensor in state.values()):  # a model without numbers, in memory; no file may hold one
        return state
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"the weight {name!r} of shape {tuple(tensor.shape)} is not a plain array of as many numbers; save it "
                "with .contiguous() or .to_dense()"
            )
    storages = [tensor.untyped_storage() for tensor in state.values()]
    distinct = {storage.data_ptr(): storage.nbytes() for storage in storages}
    if sum(tensor.nbytes for tensor in state.values()) > _SHARED * sum(distinct.values()):
        raise CheckpointError("the weights are the same few numbers under many names; save a state_dict() as it is")
    return state


def infer_architecture(content: Mapping[str, object]) -> Architecture:
    """Say which ViT a checkpoint is of, as arguments of `create_backbone`.

    Width, depth, stem and the number of cameras of an SIE are in the shapes. The number of heads is not: it is taken
    to be width / 64, as in every model of the table. The image size is that of a grid with h = 2w, w or 3w patches.

    Args:
        content: What `read_checkpoint` returns, in any layout.

    Raises:
        CheckpointError: It is no ViT with a class token and square patches.
    """
    state = split_checkpoint(content).backbone
    pos, projection = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if pos is None or projection is None or pos.ndim != 3 or projection.ndim != 4:
        raise CheckpointError(
            "the checkpoint is not of a ViT: 'pos_embed' (1, T, D) or 'patch_embed.proj.weight' (D, C, h, w) is "
            "missing; create its backbone by name"
        )
    has_stem = "patch_embed.conv.0.weight" in state
    width, _, *patch = projection.shape
    if patch[0] != patch[1]:
        raise CheckpointError(
            f"the checkpoint has patches of {patch[0]}x{patch[1]}, which are no squares; create its backbone by a "
            "timm name"
        )
    side = patch[0] * (STEM_STRIDE if has_stem else 1)
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    _check_size(content, width, depth)
    rows, columns = stored_grid(pos.shape[1] - 1)
    name = next((name for name, known in WIDTHS.items() if known == width), "vit_tiny")
    architecture = Architecture(
        name=name + ("_ics" if has_stem else ""),
        image_size=(rows * side, columns * side),
        embed_dim=width,
        depth=depth,
        num_heads=default_heads(width),
        patch_size=side,
    )
    if "sie_embed" in state:
        architecture["sie_cameras"] = len(state["sie_embed"])
    return architecture


def _check_size(content: Mapping[str, object], width: int, depth: int) -> None:
    """Make sure, before a ViT of some size is made, that a checkpoint holds as many weights: a header costs nothing.

    Args:
        content: What `read_checkpoint` returns, in any layout.
        width: D.
        depth: Blocks.

    Raises:
        CheckpointError: It does not.
    """
    state = split_checkpoint(content).backbone
    found = sum(
        _QKV.fullmatch(name) is not None and weight.shape == (3 * width, width) for name, weight in state.items()
    )
    if found != depth:
        raise CheckpointError(
            f"the checkpoint says that it is of a ViT of width {width:,} with {depth:,} blocks, and holds {found:,} of "
            "them; its author should save the whole state_dict()"
        )


def check_settings(config: BackboneConfig, content: Mapping[str, object]) -> None:
    """Refuse settings that lie in a checkpoint and would fetch a model, or make one that its weights are not of.

    Args:
        config: The settings.
        content: What `read_checkpoint` returns.

    Raises:
        CheckpointError: They would.
    """
    sizes = {"image_size": max(config.image_size), "sie_cameras": config.sie_cameras, "num_heads": config.num_heads}
    if not is_own_vit(config.name):
        sizes |= {"embed_dim": config.embed_dim, "depth": config.depth}
    for name, size in sizes.items():
        if (size or 0) > _LARGEST:
            raise CheckpointError(f"the settings in the checkpoint have {name}={size:,}, which no model has")
    if ":" in config.name:
        raise CheckpointError(
            f"the settings in the checkpoint name {config.name!r}, which would be downloaded; create this backbone "
            "yourself, and load the weights into it"
        )
    if is_own_vit(config.name):
        _check_size(content, config.embed_dim or WIDTHS[config.name.removesuffix(STEM)], config.depth or DEPTH)


def to_usl_layout(model: EmbeddingModel, *, epoch: int = 0, best_map: float = 0.0) -> dict[str, object]:
    """Return what a published USL run saves: backbone and neck under `state_dict`, `module.` before each name.

    Args:
        model: The model; its tensors are shared, not copied.
        epoch: The number of epochs trained.
        best_map: The best mAP so far, 0 to 1.
    """
    state = {f"{_PARALLEL}{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    state |= _neck_state(model, _PARALLEL)
    return {"state_dict": state, "epoch": epoch, "best_mAP": best_map}


def to_supervised_layout(model: EmbeddingModel, classifier: nn.Linear | None = None) -> dict[str, Tensor]:
    """Return what a published supervised run saves: `base.NAME`, `bottleneck.*` and `classifier.weight` (C, D).

    Args:
        model: The model; its tensors are shared, not copied.
        classifier: The bias-free layer over the neck's features, if it is to be saved too.
    """
    state = {f"base.{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    state |= _neck_state(model, "")
    if classifier is not None:
        state["classifier.weight"] = classifier.weight.detach()
    return state


def _neck_state(model: EmbeddingModel, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{NECK}{name}": tensor for name, tensor in model.bottleneck.state_dict().items()}
