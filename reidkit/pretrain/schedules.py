"""Learning rate, weight decay and teacher momentum: functions of the step alone, which makes resuming exact."""

import math

from reidkit.errors import ConfigError

__all__ = ["cosine_schedule", "learning_rate"]

_REFERENCE_BATCH = 256


def cosine_schedule(step: int, steps: int, *, start: float, end: float, warmup: int = 0) -> float:
    """Return a value that rises linearly from 0 to `start` and then follows half a cosine from `start` towards `end`.

    As the public code of DINO (Caron et al., arXiv 2104.14294) has it: the last warm-up step and the first of the
    cosine both have `start`; `end` is what would follow the last step. Weight decay and momentum have no warm-up.

    Args:
        step: In 0..steps-1.
        steps: Steps of the whole training.
        start: Value at the top of the warm-up.
        end: Value that the cosine ends at.
        warmup: Steps of the warm-up, in 0..steps.

    Raises:
        ConfigError: The step or the warm-up lies outside the training.
    """
    if not 0 <= warmup <= steps:
        raise ConfigError(f"warmup={warmup:,} of steps={steps:,}; the warm-up must fit: lower it or train for longer")
    if not 0 <= step < steps:
        raise ConfigError(f"step={step:,}; it must lie in 0..{steps - 1:,}, the steps of this training")
    if step < warmup:
        return start * step / max(1, warmup - 1)
    share = (step - warmup) / (steps - warmup)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def learning_rate(step: int, steps: int, *, base: float, batch_size: int, end: float = 1e-6, warmup: int = 0) -> float:
    """Return the learning rate of a step: warm-up, then cosine; it grows with the batch size (DINO, section 3.2).

    Args:
        step: In 0..steps-1.
        steps: Steps of the whole training.
        base: Learning rate of a batch of 256; the paper's is 0.0005.
        batch_size: Images per optimiser step over all processes and accumulated batches.
        end: Learning rate that the cosine ends at, not scaled.
        warmup: Steps of the warm-up; the paper's are those of 10 epochs.

    Raises:
        ConfigError: The step or the warm-up lies outside the training.
    """
    return cosine_schedule(step, steps, start=base * batch_size / _REFERENCE_BATCH, end=end, warmup=warmup)
