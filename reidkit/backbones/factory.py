"""Backbones by name: the ViTs of the paper, with and without its stem, and every model that timm knows."""

import difflib
import textwrap
from os import PathLike
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from reidkit.backbones.checkpoints import load_weights
from reidkit.backbones.pooling import GeM
from reidkit.backbones.vit import STEM, WIDTHS, create_vit, is_own_vit
from reidkit.errors import CheckpointError, ConfigError

__all__ = ["create_backbone", "is_published"]

_PUBLISHED = "timm"
_HUB = "hf-hub:"
_SIE = "sie_embed"


def create_backbone(  # noqa: PLR0913
    name: str,
    *,
    image_size: tuple[int, int] = (256, 128),
    drop_path: float = 0.0,
    embed_dim: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    patch_size: int | None = None,
    sie_cameras: int = 0,
    pretrained: bool | str | PathLike[str] = False,
) -> nn.Module:
    """Create a backbone: a module from images (B, 3, H, W) to features (B, D), which are not L2-normalised.

    ViTs return the class token after the last LayerNorm (other transformers of timm, their pooled feature); CNNs
    the generalised mean of their last feature map. The module has `feature_dim` (D), `image_size` (H, W) and
    `sie_cameras`. Its parameters have timm's names.

    Args:
        name: `vit_tiny`, `vit_small`, `vit_base`, each with `_ics` for the IBN convolution stem (TransReID-SSL, arXiv
            2111.12084), or a name of timm's: `resnet50`, `vit_small_patch16_224.dino`, `hf-hub:OWNER/MODEL`.
        image_size: Height and width in pixels. A ViT takes only these, multiples of its patch.
        drop_path: Stochastic depth, 0 to below 1; active in training only.
        embed_dim: Width D of a ViT; None is that of the name, as for the next three.
        depth: Blocks of a ViT.
        num_heads: Attention heads of a ViT.
        patch_size: Pixels along one side of a token of a ViT.
        sie_cameras: Number of cameras for which one of our ViTs learns an embedding (TransReID, arXiv 2102.04378,
            section 3.3); the module then takes images and optionally their cameras (B,). 0 is off.
        pretrained: False or "" starts from random weights; True or "timm" from those that timm publishes under the
            name, positions resized; another name of timm's or of a hub (see `is_published`) from that one's, if
            both are of one architecture; anything else is the path of a checkpoint, read by `load_weights`.

    Raises:
        ConfigError: An unknown name, or arguments that do not fit it.
        CheckpointError: The weights cannot be downloaded or read, or are of another model.
    """
    # Arguments that fit the name
    shape = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, "patch_size": patch_size}
    for key, value in {"height": image_size[0], "width": image_size[1], **shape}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value} of backbone {name!r} is below 1; give a positive number")
    if not 0.0 <= drop_path < 1.0:
        raise ConfigError(f"drop_path={drop_path} is outside [0, 1); 0.1 to 0.3 is usual, 0 turns it off")
    if sie_cameras < 0 or (sie_cameras and not is_own_vit(name)):
        raise ConfigError(
            f"sie_cameras={sie_cameras} does not fit backbone {name!r}: camera embeddings are for "
            f"{', '.join(WIDTHS)}, with or without {STEM}, and a positive number of cameras; 0 turns them off"
        )

    # The model and its published weights
    weights = _PUBLISHED if pretrained is True else str(pretrained or "")
    named = weights if is_published(weights) and weights != _PUBLISHED else ""
    model: Any
    if is_own_vit(name):
        model = create_vit(name, image_size=image_size, drop_path=drop_path, sie_cameras=sie_cameras, **shape)
        named = _timm_name(name) if weights == _PUBLISHED else named
    else:
        model = _timm_model(name, image_size, weights == _PUBLISHED, drop_path_rate=drop_path or None, **shape)
    if named:
        _load_published(model, name, named, image_size, **(shape if is_own_vit(name) else {}))

    # Facts that callers need, pooling of CNNs, weights of a file
    model.feature_dim = model.num_features if is_own_vit(name) else _pool_feature_map(model, name, image_size)
    model.image_size, model.sie_cameras = tuple(image_size), sie_cameras
    if weights and not is_published(weights):
        load_weights(model, weights)
    return cast(nn.Module, model)


def is_published(weights: str) -> bool:
    """Whether initial weights are downloaded: there is no file or folder of that name.

    Published are `timm`, names of timm's such as `vit_small_patch16_224.dino`, and `hf-hub:OWNER/MODEL`.
    """
    if not weights or Path(weights).exists():
        return False
    return weights == _PUBLISHED or weights.startswith(_HUB) or timm.is_model(weights)


def _timm_name(name: str) -> str:
    """Timm's name of one of our ViTs."""
    if name.endswith(STEM):
        raise ConfigError(
            f"timm publishes no weights for {name!r}; give the path of a checkpoint, such as "
            "vit_small_ics_cfs_lup.pth of TransReID-SSL, or leave `pretrained` empty"
        )
    return f"{name}_patch16_224"


def _load_published(
    model: nn.Module, name: str, weights: str, image_size: tuple[int, int], **shape: int | None
) -> None:
    """Load the published weights of another name of the same architecture; a camera embedding stays as it is."""
    published = _timm_model(weights, image_size, True, **shape).state_dict()
    cameras = {key: value for key, value in model.state_dict().items() if key == _SIE}
    try:
        model.load_state_dict(cameras | published)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 200, placeholder=" ...")
        raise CheckpointError(
            f"the weights of {weights!r} are of another model than {name!r} ({reason}); name weights of the same "
            "architecture"
        ) from error


def _timm_model(name: str, image_size: tuple[int, int], pretrained: bool, **options: Any) -> nn.Module:
    """Create a model by timm's name, without a classifier."""
    remote = ":" in name
    if not remote and not timm.is_model(name):
        close = difflib.get_close_matches(name, [*WIDTHS, *(vit + STEM for vit in WIDTHS), *timm.list_models()], n=4)
        advice = f"did you mean {', '.join(close)}?" if close else "`timm.list_models()` lists what timm has"
        raise ConfigError(f"unknown backbone {name!r}; {advice}")
    options = {"num_classes": 0, "pretrained": pretrained} | options
    try:
        try:
            return timm.create_model(name, img_size=image_size, **options)
        except TypeError:  # a model of any image size
            return timm.create_model(name, **options)
    except Exception as error:  # timm, its models and the hub's client raise exceptions of any class
        if (remote or pretrained) and not isinstance(error, TypeError):
            raise CheckpointError(
                f"timm could not get the weights of {name!r} ({error}); check the network and the name, or download "
                "the weights elsewhere and give their path as `pretrained`"
            ) from error
        given = {key: value for key, value in options.items() if value is not None}
        raise ConfigError(
            f"timm could not create {name!r} for {image_size[0]}x{image_size[1]} images with {given} ({error}); "
            "leave out the arguments that it does not know or take another size"
        ) from error


@torch.no_grad()
def _pool_feature_map(model: Any, name: str, image_size: tuple[int, int]) -> int:
    """Replace the pooling of a model whose features are maps (B, C, h, w) by GeM; return the size D of its feature."""
    image = torch.zeros(1, 3, *image_size, device=next(model.parameters()).device)
    try:
        features = model.eval().forward_features(image)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{name!r} cannot take images of {image_size[0]}x{image_size[1]} ({error}); take larger ones"
        ) from error
    if features.ndim == 4 and features.shape[1] == model.num_features:
        model.reset_classifier(0, "")
        # A hook, not a wrapper: the parameters keep timm's names, which all checkpoint layouts use.
        model.gem = GeM()
        model.register_forward_hook(_apply_gem)
    feature: Tensor = model(image)
    model.train()
    return feature.shape[1]


def _apply_gem(model: Any, _: tuple[Tensor, ...], feature_map: Tensor) -> Tensor:
    pooled: Tensor = model.gem(feature_map)
    return pooled
