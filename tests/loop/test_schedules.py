import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidkit.errors import ConfigError
from reidkit.loop import cosine_schedule, epoch_rate
from reidkit.runs import ScheduleConfig


def test_golden_schedules(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("dino_schedules")
    steps = len(data["lr"])
    rates = [cosine_schedule(step, steps, start=0.0005 * 512 / 256, end=1e-6, warmup=40) for step in range(steps)]
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
        cosine_schedule(0, 10, start=1.0, end=0.0, warmup=warmup)


def test_steps_of_the_paper() -> None:
    schedule = ScheduleConfig(name="step", step_epochs=20, factor=0.1)
    rates = [epoch_rate(epoch, 50, 3.5e-4, schedule) for epoch in (1, 20, 21, 40, 41, 50)]
    assert rates == pytest.approx([3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6, 3.5e-6])


def test_steps_after_a_warm_up_are_counted_from_its_end() -> None:
    schedule = ScheduleConfig(name="step", step_epochs=3, factor=0.5, warmup_epochs=2)
    rates = [epoch_rate(epoch, 9, 1.0, schedule) for epoch in range(1, 10)]
    assert rates == pytest.approx([0.01, 0.505, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])


def test_golden_warm_up_and_cosine(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("supervised_lr")
    epochs, base, warmup = int(data["epochs"]), float(data["base_lr"]), int(data["warmup_epochs"])
    schedule = ScheduleConfig(name="cosine", factor=0.002, warmup_epochs=warmup)
    # The file's last value is what the public code sets after the last epoch, for an epoch that never comes.
    rates = [epoch_rate(epoch, epochs, base, schedule) for epoch in range(1, epochs + 2)]
    assert len(rates) == 121
    np.testing.assert_allclose(rates, data["lr"], rtol=1e-12)


@pytest.mark.parametrize("epochs", [2, 26])
def test_a_cosine_without_warm_up_starts_at_the_rate_and_ends_at_its_factor(epochs: int) -> None:
    schedule = ScheduleConfig(name="cosine", factor=0.01)
    rates = [epoch_rate(epoch, epochs, 0.5, schedule) for epoch in range(1, epochs + 1)]
    cosines = [(1 + math.cos(math.pi * epoch / (epochs - 1))) / 2 for epoch in range(epochs)]
    assert rates == pytest.approx([0.5 * (0.01 + 0.99 * cosine) for cosine in cosines], rel=1e-12)
    assert rates[0] == 0.5
    assert rates[-1] == pytest.approx(0.005)


def test_a_cosine_of_one_epoch_trains_at_the_full_rate() -> None:
    assert epoch_rate(1, 1, 0.5, ScheduleConfig(name="cosine", factor=0.01)) == 0.5
