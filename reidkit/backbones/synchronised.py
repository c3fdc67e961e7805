"""Batch normalisation over the images of all processes, on any device."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reidkit.backbones.domains import DomainBatchNorm

__all__ = ["synchronise_norms", "whole_batch_norm"]


def whole_batch_norm(
    features: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise the rows of this process by the statistics of the rows of all; PyTorch's SyncBatchNorm needs GPUs.

    Collective, and so is its backward pass. Arguments are those of `torch.nn.functional.batch_norm` in training.

    Args:
        features: (B', D, ...), B' rows of this process.
        mean: (D,) running mean, updated in place; or None.
        variance: (D,) running variance, updated in place; or None.
        weight: (D,) or None.
        bias: (D,) or None.
        momentum: Share of the new statistics in the running ones.
        eps: Added to the variance.
    """
    # Sums of all processes, each with its number of values
    values = features.float()
    rest = [dim for dim in range(values.ndim) if dim != 1]
    shape = (1, -1, *[1] * (values.ndim - 2))
    count = values.new_tensor([values.numel() / values.shape[1]])
    sums = _sum(torch.cat([values.sum(rest), count]))
    total = sums[-1].detach()
    found_mean = sums[:-1] / total
    # Variance around the common mean
    centred = values - found_mean.view(shape)
    found_variance = _sum(centred.square().sum(rest)) / total
    if mean is not None and variance is not None:
        with torch.no_grad():
            mean.lerp_(found_mean, momentum)
            variance.lerp_(found_variance * total / (total - 1), momentum)
    # Normalised rows of this process
    normal: Tensor = centred * torch.rsqrt(found_variance + eps).view(shape)
    if weight is not None and bias is not None:
        normal = normal * weight.view(shape) + bias.view(shape)
    return normal.to(features.dtype)


def synchronise_norms(model: nn.Module) -> None:
    """Make every BatchNorm of a model normalise training batches over all processes, in place.

    Weights, states and evaluation do not change.
    """
    for norm in model.modules():
        if type(norm) in _SYNCHRONISED:
            norm.__class__ = _SYNCHRONISED[type(norm)]


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradient is summed too, since the loss of every process may depend on it."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total


class _WholeBatchNorm:
    """Mixin that normalises training batches by the rows of all processes."""

    plain_kind: Any

    def forward(self: Any, features: Tensor) -> Tensor:
        if not self.training:
            normal: Tensor = self.plain_kind.forward(self, features)
            return normal
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        statistics = self.running_mean, self.running_var
        return whole_batch_norm(features, *statistics, self.weight, self.bias, momentum=momentum, eps=self.eps)


class _SynchronisedNorm1d(_WholeBatchNorm, nn.BatchNorm1d):
    plain_kind = nn.BatchNorm1d


class _SynchronisedNorm2d(_WholeBatchNorm, nn.BatchNorm2d):
    plain_kind = nn.BatchNorm2d


class _SynchronisedDomainNorm(DomainBatchNorm):
    _by_batch = staticmethod(whole_batch_norm)  # type: ignore[assignment]


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _SynchronisedNorm1d,
    nn.BatchNorm2d: _SynchronisedNorm2d,
    DomainBatchNorm: _SynchronisedDomainNorm,
}
