"""The layouts of checkpoints, in both directions.

| layout     | keys of the weights                                        | held under           | neck           |
|------------|------------------------------------------------------------|----------------------|----------------|
| reidkit    | `backbone.NAME`, `bottleneck.*`                            | `model` or nothing   | read           |
| usl        | `NAME`, `bottleneck.*`                                     | `state_dict`         | read           |
| supervised | `base.NAME`, `bottleneck.*`, `classifier.weight`           | nothing              | reset          |
| dino       | `backbone.NAME`, `head.*`                                  | `teacher`            | reset          |
| flat       | `NAME`                                                     | nothing, `model`, .. | reset          |

NAME is timm's name of a backbone's parameter. `module.` may stand before every key (DataParallel).
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, NotRequired, TypedDict

from torch import Tensor, nn

from reidkit.backbones.embedding import EmbeddingModel
from reidkit.backbones.positions import stored_grid
from reidkit.backbones.stem import STEM_STRIDE
from reidkit.backbones.vit import STEM, WIDTHS, default_heads
from reidkit.errors import CheckpointError

__all__ = [
    "NECK",
    "Architecture",
    "Layout",
    "StoredWeights",
    "infer_architecture",
    "is_skipped",
    "split_checkpoint",
    "to_supervised_layout",
    "to_usl_layout",
]

Layout = Literal["reidkit", "usl", "supervised", "dino", "flat"]

NECK = "bottleneck."
"""Prefix of the names of the neck's weights."""

_CONTAINERS = ("model", "state_dict", "teacher")
_PARALLEL = "module."
_SKIPPED = re.compile(r"head|dist|pre_logits|classifier|fc\.|.*\bsource_(mean|var)$")


class StoredWeights(NamedTuple):
    """The weights of a checkpoint, sorted by the part of the model."""

    layout: Layout
    prefix: str
    """Prefix of the backbone's names in the file, after `module.`."""
    backbone: dict[str, Tensor]
    neck: dict[str, Tensor]
    """`weight`, `bias`, ...; empty where the file has no neck."""
    rest: dict[str, Tensor]
    """All others by their names in the file without `module.`: heads, classifiers, the neck's statistics of a source
    domain."""


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
    """Return whether weights of this name are left out on purpose if the model has none of the name.

    Heads, `dist*`, `pre_logits`, classifiers, and the source's statistics of a model trained on two domains.
    """
    return _SKIPPED.match(name) is not None


def split_checkpoint(content: Mapping[str, object]) -> StoredWeights:
    """Recognise the layout of a checkpoint's content, from `read_checkpoint`, and sort its weights.

    Raises:
        CheckpointError: There are no weights in it.
    """
    # Names without the prefix of DataParallel; the neck apart
    container, state = _find_weights(content)
    if all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): tensor for key, tensor in state.items()}
    neck_keys = {key for key in state if key.startswith(NECK) and not is_skipped(key)}
    neck = {key.removeprefix(NECK): tensor for key, tensor in state.items() if key in neck_keys}
    inner = {key: tensor for key, tensor in state.items() if key not in neck_keys}
    # The prefix of the backbone says which program wrote the file
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
    """Return the key that holds the weights, "" if they are at the top, and the weights."""
    for container in _CONTAINERS:
        held = content.get(container)
        if isinstance(held, Mapping) and (state := _tensors(held)):
            return container, state
    if state := _tensors(content):
        return "", state
    keys = ", ".join(repr(key) for key in list(content)[:8]) or "none"
    raise CheckpointError(
        f"there are no weights in the checkpoint: its keys are {keys}; weights are at the top or under one of "
        f"{', '.join(_CONTAINERS)}"
    )


def _tensors(held: Mapping[str, object]) -> dict[str, Tensor]:
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}


def infer_architecture(content: Mapping[str, object]) -> Architecture:
    """Infer the ViT that a checkpoint was saved from, as arguments of `create_backbone`.

    Width, depth, stem and the number of cameras of an SIE are in the shapes. The number of heads is not: it is taken
    to be width / 64, as in every model of the table. The image size is that of a grid with h = 2w, w or 3w patches.

    Args:
        content: Content of a file of any layout, from `read_checkpoint`.

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
    # Sizes are in the shapes
    has_stem = "patch_embed.conv.0.weight" in state
    width, _, *patch = projection.shape
    if patch[0] != patch[1]:
        raise CheckpointError(
            f"the checkpoint has patches of {patch[0]}x{patch[1]}, which are no squares; create its backbone by a "
            "timm name"
        )
    side = patch[0] * (STEM_STRIDE if has_stem else 1)
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    rows, columns = stored_grid(pos.shape[1] - 1)
    name = next((name for name, known in WIDTHS.items() if known == width), "vit_tiny")
    architecture = Architecture(
        name=name + (STEM if has_stem else ""),
        image_size=(rows * side, columns * side),
        embed_dim=width,
        depth=depth,
        num_heads=default_heads(width),
        patch_size=side,
    )
    if "sie_embed" in state:
        architecture["sie_cameras"] = len(state["sie_embed"])
    return architecture


def to_usl_layout(model: EmbeddingModel, *, epoch: int = 0, best_map: float = 0.0) -> dict[str, object]:
    """Arrange weights as published USL runs do: backbone and neck under `state_dict`, `module.` before each name.

    Args:
        model: The model; its tensors are shared, not copied.
        epoch: The number of epochs trained.
        best_map: The best mAP so far, 0 to 1.
    """
    state = {f"{_PARALLEL}{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    state |= _neck_state(model, _PARALLEL)
    return {"state_dict": state, "epoch": epoch, "best_mAP": best_map}


def to_supervised_layout(model: EmbeddingModel, classifier: nn.Linear | None = None) -> dict[str, Tensor]:
    """Arrange weights as published supervised runs do: `base.NAME`, `bottleneck.*` and `classifier.weight` (C, D).

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
