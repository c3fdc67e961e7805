"""Options that several commands share, and how they become settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

__all__ = [
    "FILE",
    "batch_size_option",
    "clustering_options",
    "data_root_option",
    "device_option",
    "model_options",
    "settings_of",
    "training_options",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(path_type=Path)
PRECISIONS = ("auto", "32", "bf16", "16")
LOGGERS = ("mlflow", "wandb")


def _joined(*options: Decorator) -> Decorator:
    """One decorator for several options, in the order of the help."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


data_root_option = click.option(
    "--data-root",
    type=FILE,
    envvar="REIDKIT_DATA",
    show_envvar=True,
    help="Folder that holds the data sets.  [default: data]",
)
device_option = click.option("--device", help="auto, cpu, cuda or cuda:N.")

batch_size_option = click.option(
    "--batch-size", type=int, help="Images in a forward pass.  [default: the checkpoint's]"
)
model_options = _joined(
    click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="auto", help="Arithmetic of the model."),
)
"""Where and how a trained model computes."""

training_options = _joined(
    data_root_option,
    click.option("--recipe", help="Settings to start from: `reidkit recipes list`.  [default: the target's]"),
    click.option("--config", "config_file", type=FILE, help="TOML file of settings over the recipe's."),
    click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting, over all else."),
    click.option("--output", type=FILE, help="Run folder.  [default: runs/MODE-TARGET, numbered if used]"),
    click.option("--resume", is_flag=True, help="Go on with the run in --output, or with the last default one."),
    click.option(
        "--pretrained",
        metavar="WEIGHTS",
        help="Weights to start from: a file, `timm`, a name of timm's, hf-hub:OWNER/MODEL, or `none`.",
    ),
    click.option("--epochs", type=int, help="Epochs of the whole run."),
    click.option("--no-flip", is_flag=True, help="No mirrored images: for letters and the like."),
    click.option("--no-cameras", is_flag=True, help="Treat all cameras as unknown."),
    click.option("--strict", is_flag=True, help="Stop at the first unreadable image."),
    click.option("--seed", type=int, help="Seed of everything random."),
    device_option,
    click.option("--precision", type=click.Choice(PRECISIONS), help="Arithmetic of the model."),
    click.option(
        "--logger",
        "loggers",
        multiple=True,
        type=click.Choice(LOGGERS),
        help="Log the run there too, besides TensorBoard; may be repeated.",
    ),
    click.option("--quiet", is_flag=True, help="Show warnings and errors only."),
)
"""Options of every training command."""

clustering_options = _joined(
    click.option("--batch-size", type=int, help="Images per training step."),
    click.option("--eps", type=float, help="Largest Jaccard distance of neighbours; higher merges more."),
    click.option("--min-samples", type=int, help="Images within eps that make a core point."),
    click.option("--method", type=click.Choice(("dbscan", "hdbscan")), help="What clusters the distances."),
)
"""Options of the training commands that cluster."""

# Option -> (setting, value); a callable value maps what was typed.
_SETTINGS: dict[str, tuple[str, Any]] = {
    "pretrained": ("backbone.pretrained", lambda typed: "" if typed == "none" else typed),
    "epochs": ("training.epochs", None),
    "batch_size": ("sampler.batch_size", None),
    "eps": ("clustering.eps", None),
    "min_samples": ("clustering.min_samples", None),
    "method": ("clustering.method", None),
    "supervised_batch_size": ("supervised.batch_size", None),
    "source": ("data.source", None),
    "strategy": ("uda.strategy", None),
    "source_checkpoint": ("uda.source_checkpoint", str),
    "image_list": ("pretrain.list", None),
    "more": ("pretrain.more", None),
    "probe": ("pretrain.probe", None),
    "no_flip": ("augmentation.flip", lambda _: 0.0),
    "no_cameras": ("data.cameras", lambda _: False),
    "strict": ("data.strict", None),
    "seed": ("seed", None),
    "device": ("training.device", None),
    "precision": ("training.precision", None),
    "loggers": ("logging.loggers", None),
}


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, nested by section, from the options that were typed."""
    settings: dict[str, Any] = {}
    for name, (key, convert) in _SETTINGS.items():
        typed = options.get(name)
        if typed is None or typed is False or typed == ():
            continue
        section, _, setting = key.rpartition(".")
        place = settings.setdefault(section, {}) if section else settings
        place[setting] = convert(typed) if convert else typed
    return settings
