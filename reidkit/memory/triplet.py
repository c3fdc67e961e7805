"""The triplet loss of supervised training."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from reidkit.errors import ConfigError

__all__ = ["batch_hard_triplet"]


def batch_hard_triplet(features: Tensor, labels: Tensor, *, margin: float | None = None) -> Tensor:
    """Batch-hard triplet loss on Euclidean distances (Hermans et al., arXiv 1703.07737, section 2).

    Every image is an anchor a with its farthest image p of equal label and its nearest image n of another label; its
    loss is log(1 + exp(d(a, p) - d(a, n))), or max(0, margin + d(a, p) - d(a, n)). Computed in
    float32 under any autocast. The gradient of the distance of equal features is taken to be 0.

    Args:
        features: (B, D) raw features; they are not normalised.
        labels: (B,) int64.
        margin: Distance by which negatives must be farther than positives, >= 0; None is the soft margin.

    Returns:
        The mean loss over the anchors that have both another image of their label and one of another label in the
        batch, a scalar; 0 if none has.

    Raises:
        ConfigError: The margin is negative.
    """
    if margin is not None and margin < 0:
        raise ConfigError(f"margin={margin}; it must be >= 0 (0.3 is usual), or None for the soft margin")
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        same = labels[:, None] == labels[None, :]
        positives = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        with torch.no_grad():
            # Differences, not a matrix product: its error is far above 1e-6 for images that almost coincide
            distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
            farthest = distance.masked_fill(~positives, -torch.inf).argmax(1)
            nearest = distance.masked_fill(same, torch.inf).argmin(1)
        gap = (features - features[farthest]).norm(dim=1) - (features - features[nearest]).norm(dim=1)
        losses = F.softplus(gap) if margin is None else F.relu(margin + gap)
        counted = positives.any(1) & ~same.all(1)
        return (losses * counted).sum() / counted.sum().clamp(min=1)
