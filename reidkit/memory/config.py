"""Settings of the memory bank."""

from typing import Literal

from pydantic import Field

from reidkit.config import Settings

__all__ = ["MemoryConfig"]


class MemoryConfig(Settings):
    """Loss and update of the memory bank of cluster centroids."""

    temperature: float = Field(0.05, gt=0)
    """Temperature of the softmax over clusters; logits are cosine / temperature."""

    momentum: float = Field(0.2, ge=0, lt=1)
    """Share of the old centroid that stays at an update."""

    update: Literal["hard", "mean"] = "hard"
    """`hard`: once per cluster and batch, by the instance least similar to the centroid; `mean`: by every instance."""
