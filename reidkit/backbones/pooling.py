"""Generalised-mean pooling, which turns the feature map of a CNN into one vector."""

import torch
from torch import Tensor, nn

__all__ = ["GeM"]

_SMALLEST = 1e-6


class GeM(nn.Module):
    """Generalised mean over positions, (mean of x^p)^(1/p), with a learnable p.

    p = 1 is average pooling, p -> infinity maximum pooling (Radenovic et al., "Fine-tuning CNN Image Retrieval with No
    Human Annotation", TPAMI 2018, equation 3). Values below 1e-6 count as 1e-6.

    Args:
        p: Initial exponent.
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled features (B, D) of maps (B, D, H, W), in float32."""
        powers = maps.float().clamp(min=_SMALLEST).pow(self.p)
        return powers.mean(dim=(2, 3)).pow(1.0 / self.p)
