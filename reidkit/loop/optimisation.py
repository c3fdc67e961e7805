"""Optimiser, and hooks around its steps."""

from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn, optim

from reidkit.runs import OptimizerConfig

__all__ = [
    "DECAYED",
    "GradientScaling",
    "StepHook",
    "check_moments",
    "create_optimizer",
    "set_learning_rate",
]

DECAYED = "decayed"
"""In a parameter group: False if it is to know no weight decay."""

_FACTOR = "learning_rate_factor"  # in a parameter group, and so in its saved state; a group without it has 1


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> optim.Optimizer:
    """The optimiser over all parameters that learn.

    One parameter group; with a `bias_factor` other than 1 a second one, of the biases; without `decay_biases` a second
    one of biases and norms, which knows no weight decay.
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            faster = config.bias_factor != 1 and name.endswith("bias")
            apart = faster or (not config.decay_biases and parameter.ndim <= 1)
            (biases if apart else weights).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights}]
    if biases:
        groups.append({"params": biases, _FACTOR: config.bias_factor})
        if not config.decay_biases:
            groups[-1] |= {"weight_decay": 0.0, DECAYED: False}
    optimizer: optim.Optimizer
    if config.name == "adamw":
        optimizer = optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = optim.SGD(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=config.momentum
        )
    set_learning_rate(optimizer, config.learning_rate)
    return optimizer


def check_moments(optimizer: optim.Optimizer) -> None:
    """Hold what an optimiser has loaded against its parameters, which it does not do before its next step.

    Raises:
        ValueError: A moment is of another shape than its parameter.
    """
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if name != "step" and isinstance(moment, Tensor) and moment.shape != parameter.shape:
                raise ValueError(f"moment {name} is {tuple(moment.shape)} for weights {tuple(parameter.shape)}")


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate times its own factor (that of biases)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1)


class StepHook:
    """Called around the optimiser's steps of an epoch; this one does nothing."""

    def before_step(self, optimizer: optim.Optimizer, step: int) -> None:
        """Set the rates of a step, counted from 1 in the epoch."""

    def before_update(self) -> None:
        """Change the gradients before the optimiser's step."""


class GradientScaling:
    """The scaling of gradients in 16 bits, where Fabric has one; it handles gradients that overflow itself."""

    def __init__(self, fabric: Fabric) -> None:
        self._precision = fabric.strategy.precision
        self.enabled = getattr(self._precision, "scaler", None) is not None

    def unscale(self, optimizer: optim.Optimizer) -> None:
        """Give gradients their true size, once in a step."""
        self._precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))  # the one inside Fabric's
