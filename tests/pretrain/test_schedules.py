from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidkit.errors import ConfigError
from reidkit.pretrain.schedules import cosine_schedule, learning_rate


def test_golden_schedules(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("dino_schedules")
    steps = len(data["lr"])
    rates = [learning_rate(step, steps, base=0.0005, batch_size=512, warmup=40) for step in range(steps)]
    decays = [cosine_schedule(step, steps, start=0.04, end=0.4) for step in range(steps)]
    momenta = [cosine_schedule(step, steps, start=0.996, end=1.0) for step in range(steps)]
    np.testing.assert_allclose(rates, data["lr"], atol=1e-12, rtol=0)
    np.testing.assert_allclose(decays, data["weight_decay"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(momenta, data["momentum"], atol=1e-9, rtol=0)


def test_a_warm_up_of_the_whole_training_or_of_one_step() -> None:
    assert [cosine_schedule(step, 3, start=1.0, end=0.0, warmup=3) for step in range(3)] == [0, 0.5, 1]
    assert [cosine_schedule(step, 3, start=1.0, end=0.0, warmup=1) for step in range(3)] == [0, 1, pytest.approx(0.5)]


@pytest.mark.parametrize("step", [-1, 10])
def test_steps_outside_the_training_are_refused(step: int) -> None:
    with pytest.raises(ConfigError, match=rf"step={step}; it must lie in 0..9"):
        cosine_schedule(step, 10, start=1.0, end=0.0)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_that_does_not_fit_is_refused(warmup: int) -> None:
    with pytest.raises(ConfigError, match=rf"warmup={warmup} of steps=10"):
        learning_rate(0, 10, base=1.0, batch_size=256, warmup=warmup)
