"""Optimiser and learning rate."""

import math

from torch import nn, optim

from reidkit.loop.config import OptimizerConfig, ScheduleConfig

__all__ = ["create_optimizer", "learning_rate", "set_learning_rate"]

_WARMUP_START = 0.01


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> optim.Optimizer:
    """The optimiser over all parameters that learn."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.name == "adamw":
        return optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return optim.SGD(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=config.momentum)


def learning_rate(epoch: int, epochs: int, base: float, schedule: ScheduleConfig) -> float:
    """The learning rate of an epoch, counted from 1: a function of the epoch alone, so resuming is exact."""
    if epoch <= schedule.warmup_epochs:
        return base * (_WARMUP_START + (1 - _WARMUP_START) * (epoch - 1) / schedule.warmup_epochs)
    done = epoch - 1 - schedule.warmup_epochs
    if schedule.name == "step":
        return base * schedule.factor ** (done // schedule.step_epochs)
    share = done / max(1, epochs - 1 - schedule.warmup_epochs)
    return base * (schedule.factor + (1 - schedule.factor) * (1 + math.cos(math.pi * share)) / 2)


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
