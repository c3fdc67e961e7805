"""Contrast within a batch: the loss of epochs without clusters."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["batch_contrast"]


def batch_contrast(features: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss of a batch (Khosla et al., arXiv 2004.11362, equation 2).

    With two views of every image and one label per image it is SimCLR's NT-Xent loss (Chen et al., arXiv 2002.05709).
    Computed in float32 under any autocast.

    Args:
        features: (B, D) raw features; normalised here.
        labels: (B,) int64; images of equal label attract, all others repel.
        temperature: Temperature of the softmax over the rest of the batch, > 0.

    Returns:
        The mean loss over the images that have a partner in the batch, a scalar; 0 if none has.
    """
    with torch.autocast(features.device.type, enabled=False):
        units = F.normalize(features.float())
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        logits = (units @ units.t() / temperature).masked_fill(itself, -torch.inf)
        partners = (labels[:, None] == labels[None, :]) & ~itself
        count = partners.sum(1)
        log_share = logits.log_softmax(1).masked_fill(~partners, 0)
        has_partner = count > 0
        losses = -log_share.sum(1) / count.clamp(min=1)
        return (losses * has_partner).sum() / has_partner.sum().clamp(min=1)
