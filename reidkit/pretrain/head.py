"""The projection head of DINO (Caron et al., arXiv 2104.14294, section 3.1), and clipping of gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["DinoHead", "clip_gradients", "freeze_last"]


class DinoHead(nn.Module):
    """Three linear layers with GELU between them, L2 normalisation, and weight-normalised outputs.

    Args:
        features: Size D of the backbone's feature.
        outputs: Number O of prototypes that images are compared with.
        hidden: Width of the first two layers.
        bottleneck: Width of the third, whose output is L2-normalised.

    Linear weights start from a normal distribution of deviation 0.02, cut at -2 and 2, biases from 0. The rows of the
    last layer count by their direction only: their norm is fixed at 1, so that outputs are cosines.
    """

    def __init__(self, features: int, outputs: int = 65_536, *, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = nn.Linear(bottleneck, outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, D) of the backbone to outputs (B, O) in [-1, 1]."""
        units = F.normalize(self.mlp(features))
        return F.linear(units, F.normalize(self.last_layer.weight))


def freeze_last(head: DinoHead, epoch: int, *, epochs: int = 1) -> None:
    """Remove the gradient of the last layer while it is frozen, so that neither gradient nor weight decay changes it.

    Called between the backward pass and the optimiser's step. The public code freezes the first epoch.

    Args:
        head: The head, without the wrapper of a distributed run.
        epoch: Counted from 0.
        epochs: Number of epochs for which the layer is frozen.
    """
    if epoch < epochs:
        head.last_layer.weight.grad = None


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], limit: float = 3.0) -> Tensor:
    """Scale every gradient whose own L2 norm exceeds `limit` down to it, as the public code of DINO does.

    Every parameter is clipped alone, unlike `torch.nn.utils.clip_grad_norm_` over a whole model. The host does not wait
    for the device. Scaled gradients of mixed precision must be unscaled first.

    Args:
        parameters: Those without a gradient are ignored.
        limit: Largest norm, > 0.

    Returns:
        (P,) norms before the clipping, of the P parameters that have a gradient.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    for gradient, norm in zip(gradients, norms, strict=True):
        gradient.mul_((limit / (norm + 1e-6)).clamp(max=1))
    return torch.stack(norms) if norms else torch.empty(0)
