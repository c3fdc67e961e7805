import copy

import pytest
import torch
from pydantic import ValidationError

from reidkit.loop.optimisation import create_optimizer, set_learning_rate
from reidkit.runs.config import OptimizerConfig


def small_model() -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def shapes(optimizer: torch.optim.Optimizer) -> list[list[tuple[int, ...]]]:
    return [[tuple(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.arange(12.0).reshape(4, 3) / 12).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_frozen_parameters_are_left_out(name: str, kind: type) -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = create_optimizer(model, OptimizerConfig.model_validate({"name": name, "bias_factor": 2}))
    assert isinstance(optimizer, kind)
    assert shapes(optimizer) == [[(2, 3)]]
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_without_a_factor_all_parameters_are_one_group_in_the_models_order() -> None:
    model = small_model()
    optimizer = create_optimizer(model, OptimizerConfig())
    (group,) = optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in model.parameters()]
    plain = torch.optim.SGD(model.parameters(), lr=3.5e-4)
    assert set(group) == set(plain.param_groups[0])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_learn_at_their_own_rate(name: str) -> None:
    config = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.1, "bias_factor": 2})
    optimizer = create_optimizer(small_model(), config)
    assert shapes(optimizer) == [[(4, 3), (4,), (2, 4)], [(4,), (4,), (2,)]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    set_learning_rate(optimizer, 0.03)
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.06]


def test_a_step_moves_biases_by_the_factor_times_their_gradient() -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = create_optimizer(model, OptimizerConfig(learning_rate=0.01, weight_decay=0, bias_factor=3))
    train(model, optimizer, steps=1)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        rate = 0.03 if name.endswith("bias") else 0.01
        torch.testing.assert_close(parameter.detach(), before[name] - rate * parameter.grad)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("bias_factor", [1.0, 2.0])
def test_a_resumed_optimiser_goes_on_as_if_never_stopped(name: str, bias_factor: float) -> None:
    config = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.01, "bias_factor": bias_factor})
    model = small_model()
    optimizer = create_optimizer(model, config)
    train(model, optimizer, steps=2)
    resumed = small_model()
    resumed.load_state_dict(model.state_dict())
    other = create_optimizer(resumed, config)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, machine in ((model, optimizer), (resumed, other)):
        set_learning_rate(machine, 0.005)
        train(one, machine, steps=2)
    state = resumed.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert [group["lr"] for group in other.param_groups] == ([0.005] if bias_factor == 1 else [0.005, 0.01])


@pytest.mark.parametrize("factor", [0, -1])
def test_the_factor_of_biases_is_positive(factor: float) -> None:
    with pytest.raises(ValidationError, match="bias_factor"):
        OptimizerConfig(bias_factor=factor)
