"""Re-identification without labels: pseudo-label clustering on ViT-ICS, exact, sparse and resumable.

The rooms: `reidkit.datasets`, `reidkit.backbones`, `reidkit.clustering`, `reidkit.memory`, `reidkit.evaluation`
(each useful alone), `reidkit.loop` (the alternation), `reidkit.usl` (a mode), `reidkit.inference` (what a trained model
is used for), `reidkit.cli`. Importing this package loads none of them.
"""

from os import PathLike
from typing import TYPE_CHECKING

from reidkit.__about__ import __version__

if TYPE_CHECKING:
    from reidkit.inference import Embedder
    from reidkit.runs import Precision

__all__ = ["__version__", "load"]


def load(checkpoint: str | PathLike[str], *, device: str = "auto", precision: "Precision" = "auto") -> "Embedder":
    """Load a model to embed images with: `reidkit.load("runs/usl-market").embed(["a.jpg", "b.jpg"])`.

    Args:
        checkpoint: A run folder (its best model), one of its checkpoints, or a checkpoint of another project.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Arithmetic of the model: `auto`, `32`, `bf16` or `16`.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or not of a known model.
        ConfigError: The device does not exist, or cannot compute in the precision.
    """
    from reidkit.inference import load as load_embedder  # its room loads torch

    return load_embedder(checkpoint, device=device, precision=precision)
