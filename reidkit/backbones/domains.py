"""Batch normalisation with separate statistics for two domains: joint training on a source and a target."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidkit.errors import ConfigError, TrainingError

__all__ = ["DomainBatchNorm", "merge_domains", "source_statistics", "split_domains"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_TARGETS = {"source_mean": "running_mean", "source_var": "running_var"}


class DomainBatchNorm(nn.Module):
    """BatchNorm with shared parameters and separate statistics of two domains.

    Domain-specific batch normalisation (Chang et al., arXiv 1906.03950) with shared affine parameters, as SpCL trains
    (Ge et al., arXiv 2006.02713). It takes over the parameters and statistics of a plain one under their names; these
    statistics are the target's. Those of the source, `source_mean` and `source_var` (D,), start as copies and are
    part of the state dict. The state of a plain model, which has none, loads too: the source starts from the target's.

    In training a batch is B images of the source followed by B of the target: each half is normalised by its own mean
    and variance and moves its own running statistics. In evaluation all images are of one domain: the target, or the
    source inside `source_statistics`.

    Args:
        plain: The BatchNorm1d or BatchNorm2d that it replaces.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    source_mean: Tensor
    source_var: Tensor

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self._kind: type[nn.BatchNorm1d | nn.BatchNorm2d] = _plain_kind(plain)
        self.eps, self.momentum = plain.eps, plain.momentum
        self.register_parameter("weight", plain.weight)
        self.register_parameter("bias", plain.bias)
        for name, buffer in plain.named_buffers():
            self.register_buffer(name, buffer)
        for source, target in _TARGETS.items():
            self.register_buffer(source, self.get_buffer(target).clone())
        self.register_load_state_dict_pre_hook(_complete_state)  # type: ignore[no-untyped-call]
        self.of_source = False
        self.train(plain.training)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (2B, D, ...) in training, (B, D, ...) in evaluation.

        Raises:
            TrainingError: The number of images of a training batch is odd.
        """
        if not self.training:
            return self._normalise(features, of_source=self.of_source)
        if len(features) % 2:
            raise TrainingError(
                f"a training batch of {len(features)} images cannot be halved; joint training takes as many images "
                "of the source as of the target, those of the source first"
            )
        self.num_batches_tracked.add_(1)
        source, target = features.chunk(2)
        return torch.cat((self._normalise(source, of_source=True), self._normalise(target, of_source=False)))

    def _normalise(self, features: Tensor, *, of_source: bool) -> Tensor:
        mean, var = (self.source_mean, self.source_var) if of_source else (self.running_mean, self.running_var)
        momentum = self.momentum
        if momentum is None:  # in torch: the running statistics are the mean over all batches so far
            momentum = 1 / int(self.num_batches_tracked) if self.training else 0.0
        norm = self._by_batch if self.training else functional.batch_norm
        return norm(features, mean, var, self.weight, self.bias, momentum=momentum, eps=self.eps)

    @staticmethod
    def _by_batch(
        features: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, *, momentum: float, eps: float
    ) -> Tensor:
        """Normalise by the statistics of the batch, and move the running ones."""
        return functional.batch_norm(features, mean, var, weight, bias, True, momentum, eps)

    def merge(self) -> nn.BatchNorm1d | nn.BatchNorm2d:
        """Return the target's plain BatchNorm: the same tensors, not copies, without the source's statistics."""
        affine = self.weight is not None
        plain = self._kind(len(self.running_mean), eps=self.eps, momentum=self.momentum, affine=affine)
        plain.weight, plain.bias = self.weight, self.bias
        plain.running_mean, plain.running_var = self.running_mean, self.running_var
        plain.num_batches_tracked = self.num_batches_tracked
        return plain.train(self.training)


def _complete_state(_module: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *_: object) -> None:
    """Start the source from the target's statistics if a state to be loaded has none of the source."""
    for source, target in _TARGETS.items():
        if prefix + target in state:
            state.setdefault(prefix + source, state[prefix + target])


def split_domains(model: nn.Module) -> None:
    """Replace every BatchNorm of a model by a `DomainBatchNorm`, in place; its other weights stay the same tensors.

    Load pre-trained weights first: `load_weights` takes a plain model. The split model's own `state_dict`
    resumes exactly; `load_weights` reads it into a plain model too, without the statistics of the source.

    Raises:
        ConfigError: A batch normalisation is neither BatchNorm1d nor BatchNorm2d, such as timm's BatchNormAct2d, or
            it keeps no running statistics; the model is then as it was.
    """
    norms = {path: module for path, module in model.named_modules() if isinstance(module, _NORMS)}
    for path, norm in norms.items():
        if _plain_kind(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d) or norm.running_mean is None:
            raise ConfigError(
                f"the statistics of {path!r} ({type(norm).__name__}) cannot be kept per domain, only those of plain "
                "BatchNorm1d and BatchNorm2d with running statistics; take a ViT or a ResNet"
            )
    for path, norm in norms.items():
        _replace(model, path, DomainBatchNorm(cast(nn.BatchNorm1d | nn.BatchNorm2d, norm)))


def _plain_kind(norm: nn.Module) -> Any:
    """Return the class of a BatchNorm, or its class before it was synchronised over processes."""
    return getattr(norm, "plain_kind", type(norm))


def merge_domains(model: nn.Module) -> None:
    """Undo `split_domains` in place: plain BatchNorms with the statistics of the target.

    The result has the state dict of a plain model, as other programs expect it. To load the state of a split model
    into a plain one without `load_weights`, split the plain one, load, and merge.
    """
    split = {path: module for path, module in model.named_modules() if isinstance(module, DomainBatchNorm)}
    for path, norm in split.items():
        _replace(model, path, norm.merge())


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


@contextmanager
def source_statistics(model: nn.Module) -> Iterator[None]:
    """Evaluate a split model by the statistics of the source inside a `with` block; training is not affected.

    Raises:
        ConfigError: The model is not split: it has one set of statistics only.
    """
    norms = [module for module in model.modules() if isinstance(module, DomainBatchNorm)]
    if not norms:
        raise ConfigError("the model keeps no batch statistics of a source; split it first, by `split_domains`")
    before = [norm.of_source for norm in norms]
    for norm in norms:
        norm.of_source = True
    try:
        yield
    finally:
        for norm, of_source in zip(norms, before, strict=True):
            norm.of_source = of_source
