"""Settings of the generated set."""

from typing import Literal

from pydantic import Field

from reidkit.config import Settings

__all__ = ["Style", "SyntheticConfig"]

Style = Literal["summer", "winter"]


class SyntheticConfig(Settings):
    """Size, seed and style of a generated set; equal settings give the same bytes."""

    train_identities: int = Field(default=120, ge=2, le=5000)
    """Identities in `bounding_box_train`, 2 to 5,000."""

    test_identities: int = Field(default=60, ge=2, le=4999)
    """Identities in `query` and `bounding_box_test`, none of them a training identity, 2 to 4,999."""

    cameras: int = Field(default=6, ge=2, le=64)
    """Cameras, 2 to 64. An identity is seen by at least three of them (by both if there are two)."""

    images_per_camera: int = Field(default=3, ge=1, le=50)
    """Images of an identity in each camera that sees it, 1 to 50. Queries are additional images."""

    distractors: int = Field(default=100, ge=0, le=20000)
    """Gallery images of nobody's match (identity 0000), 0 to 20,000."""

    height: int = Field(default=128, ge=32, le=512)
    """Image height in pixels, 32 to 512."""

    width: int = Field(default=64, ge=16, le=512)
    """Image width in pixels, 16 to 512."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random, 0 to 2**32 - 1."""

    style: Style = "summer"
    """The domain: "summer", or "winter" (coats, scarves, hats, snow, other cameras) to adapt to."""
