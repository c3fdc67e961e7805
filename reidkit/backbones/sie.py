"""A ViT with camera embeddings: side information embedding (SIE)."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reidkit.errors import ConfigError

__all__ = ["CameraVisionTransformer"]

_STRENGTH = 3.0  # lambda of the paper


class CameraVisionTransformer(VisionTransformer):
    """A ViT with a learned vector per camera, added to all its tokens (TransReID, arXiv 2102.04378, section 3.3).

    The embedding takes up how a camera changes all its images, by its light and its angle.

    Args:
        cameras: Number of cameras, ids 0 to cameras - 1.
        **arguments: Those of timm's `VisionTransformer`.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, cameras: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sie_cameras = cameras
        self.sie_embed = nn.Parameter(torch.empty(cameras, 1, self.embed_dim))
        nn.init.trunc_normal_(self.sie_embed, std=0.02)

    def forward(  # type: ignore[override]  # without timm's attention masks
        self, images: Tensor, cameras: Tensor | None = None
    ) -> Tensor:
        """Return the features (B, D) of images (B, 3, H, W).

        Args:
            images: Normalised images.
            cameras: (B,) int64 camera of each image; -1 is unknown and adds nothing. None: all are unknown.

        Raises:
            ConfigError: A camera id is `sie_cameras` or above.
        """
        classes = self.cls_token.expand(images.shape[0], -1, -1)  # an exporter would take len() for a constant
        tokens = torch.cat((classes, self.patch_embed(images)), dim=1) + self.pos_embed
        if cameras is not None:
            tokens = tokens + _STRENGTH * self._camera_embedding(cameras)
        features: Tensor = self.forward_head(self.norm(self.blocks(self.norm_pre(tokens))))
        return features

    def _camera_embedding(self, cameras: Tensor) -> Tensor:
        """Look up the vectors (B, 1, D) of cameras (B,), zero for unknown ones."""
        if int(cameras.max()) >= self.sie_cameras:
            raise ConfigError(
                f"camera {int(cameras.max())} (ids begin at 0) reached a backbone with sie_cameras={self.sie_cameras}; "
                "create it for as many cameras as the images have, or give -1 where it does not know a camera"
            )
        known = (cameras >= 0)[:, None, None]
        return self.sie_embed[cameras.clamp(min=0)] * known
