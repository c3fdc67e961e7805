import pytest
import torch

from reidkit.loop.config import OptimizerConfig, ScheduleConfig
from reidkit.loop.optimisation import create_optimizer, learning_rate, set_learning_rate


def test_steps_of_the_paper() -> None:
    schedule = ScheduleConfig(name="step", step_epochs=20, factor=0.1)
    rates = [learning_rate(epoch, 50, 3.5e-4, schedule) for epoch in (1, 20, 21, 40, 41, 50)]
    assert rates == pytest.approx([3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6, 3.5e-6])


def test_cosine_ends_at_its_factor() -> None:
    schedule = ScheduleConfig(name="cosine", factor=0.01, warmup_epochs=2)
    rates = [learning_rate(epoch, 12, 1.0, schedule) for epoch in range(1, 13)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[2] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.01)
    assert rates[2:] == sorted(rates[2:], reverse=True)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_frozen_parameters_are_left_out(name: str, kind: type) -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = create_optimizer(model, OptimizerConfig.model_validate({"name": name}))
    assert isinstance(optimizer, kind)
    assert [parameter.shape for group in optimizer.param_groups for parameter in group["params"]] == [(2, 3)]
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
