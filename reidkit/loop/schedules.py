"""Learning rates by epoch and rates by step: functions of their number alone, so that resuming is exact."""

import math

from reidkit.errors import ConfigError
from reidkit.runs import ScheduleConfig

__all__ = ["cosine_schedule", "epoch_rate"]

_WARMUP_START = 0.01


def epoch_rate(epoch: int, epochs: int, base: float, schedule: ScheduleConfig) -> float:
    """The learning rate of an epoch, counted from 1 over the `epochs` of its stage."""
    done, warmup = epoch - 1, schedule.warmup_epochs
    if done < warmup:
        return base * (_WARMUP_START + (1 - _WARMUP_START) * done / warmup)
    if schedule.name == "step":
        return base * schedule.factor ** ((done - warmup) // schedule.step_epochs)
    # After a warm-up this is the cosine of timm's scheduler, which the public code of TransReID-SSL steps after every
    # epoch: it spans all epochs, the warm-up hides its beginning, and its end is what would follow the last epoch.
    share = done / (epochs if warmup else max(1, epochs - 1))
    return base * (schedule.factor + (1 - schedule.factor) * (1 + math.cos(math.pi * share)) / 2)


def cosine_schedule(step: int, steps: int, *, start: float, end: float, warmup: int = 0) -> float:
    """A value that rises linearly from 0 to `start` and then follows half a cosine from `start` towards `end`.

    As the public code of DINO (Caron et al., arXiv 2104.14294) has it: the last warm-up step and the first of the
    cosine both have `start`; `end` is what would follow the last step. Weight decay and momentum have no warm-up.

    Args:
        step: In 0..steps-1.
        steps: Steps of the whole training.
        start: Value at the top of the warm-up.
        end: Value that the cosine ends at.
        warmup: Steps of the warm-up, in 0..steps.

    Raises:
        ConfigError: The step or the warm-up is outside the training.
    """
    if not 0 <= warmup <= steps:
        raise ConfigError(f"warmup={warmup:,} of steps={steps:,}; the warm-up must fit: lower it or train for longer")
    if not 0 <= step < steps:
        raise ConfigError(f"step={step:,}; it must lie in 0..{steps - 1:,}, the steps of this training")
    if step < warmup:
        return start * step / max(1, warmup - 1)
    share = (step - warmup) / (steps - warmup)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
