"""Re-identification without labels: pseudo-label clustering on ViT-ICS, exact, sparse and resumable.

- Data: `reidkit.datasets`, `reidkit.synthetic`.
- Models and losses: `reidkit.backbones`, `reidkit.memory`.
- Clusters and metrics of any embeddings: `reidkit.clustering`, `reidkit.evaluation`.
- Training: `reidkit.loop`, and its modes `reidkit.usl`, `reidkit.uda`, `reidkit.supervised`, `reidkit.pretrain`.
- Run folders and recipes: `reidkit.runs`.
- Use of a trained model: `reidkit.inference`, `reidkit.export`.
- Pages about runs: `reidkit.reporting`, `reidkit.pages`.
- Foundations: `reidkit.storage` (files), `reidkit.distributed` (process group), `reidkit.errors`, `reidkit.config`,
  `reidkit.cpu`.
- The command line: `reidkit.cli`.

Importing `reidkit` loads none of them.
"""

from os import PathLike
from typing import TYPE_CHECKING

from reidkit.__about__ import __version__

if TYPE_CHECKING:
    from reidkit.inference import Embedder
    from reidkit.runs import Precision

__all__ = ["__version__", "load"]


def load(checkpoint: str | PathLike[str], *, device: str = "auto", precision: "Precision" = "auto") -> "Embedder":
    """Load a model that embeds images: `reidkit.load("runs/usl-market").embed(["a.jpg", "b.jpg"])`.

    Args:
        checkpoint: A run folder (its best model), one of its checkpoints, or a checkpoint of another project.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Arithmetic of the model: `auto`, `32`, `bf16` or `16`.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or not of a known model.
        ConfigError: The device does not exist, or cannot compute in the precision.
    """
    from reidkit.inference import load as load_embedder  # loads torch

    return load_embedder(checkpoint, device=device, precision=precision)
