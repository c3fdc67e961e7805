import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reidkit.errors import ConfigError, TrainingError
from reidkit.memory.dino import DinoLoss

Array = NDArray[Any]


def softmax(row: Array, temperature: float) -> list[float]:
    powers = [math.exp((value - max(row)) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive(
    student: Array, teacher: Array, centre: Array, batch: int, student_temperature: float, teacher_temperature: float
) -> float:
    """The loss pair by pair, image by image, output by output, in double precision."""
    losses = []
    for t in range(len(teacher) // batch):
        for v in range(len(student) // batch):
            if t == v:
                continue
            for image in range(batch):
                target = softmax(teacher[t * batch + image] - centre, teacher_temperature)
                predicted = softmax(student[v * batch + image], student_temperature)
                losses.append(-sum(p * math.log(q) for p, q in zip(target, predicted, strict=True)))
    return sum(losses) / len(losses)


def draw(seed: int, views: int = 5, batch: int = 3, outputs: int = 7) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(views * batch, outputs)), rng.normal(size=(2 * batch, outputs)), rng.normal(size=outputs)


def test_golden_loss_gradient_and_centre(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("dino_loss_a")
    criterion = DinoLoss(int(data["out_dim"]))
    # The public code warms the teacher's temperature up, linearly from epoch to epoch.
    first, last = data["teacher_temp"]
    warmup = np.linspace(first, last, int(data["warmup_epochs"]))
    for step in range(3):
        epoch = int(data[f"epoch_{step}"])
        temperature = float(warmup[epoch]) if epoch < len(warmup) else float(last)
        student = torch.from_numpy(data[f"student_{step}"]).requires_grad_()
        teacher = torch.from_numpy(data[f"teacher_{step}"])
        loss = criterion(student, teacher, teacher_temperature=temperature)
        (gradient,) = torch.autograd.grad(loss, student)
        criterion.update(teacher)
        assert loss.item() == pytest.approx(float(data[f"loss_{step}"]), abs=1e-5)
        np.testing.assert_allclose(gradient, data[f"grad_{step}"], atol=1e-7, rtol=1e-4)
        np.testing.assert_allclose(criterion.centre, data[f"center_{step}"][0], atol=1e-6)


@pytest.mark.parametrize(("views", "batch"), [(2, 3), (3, 1), (5, 3), (10, 2)])
def test_equals_the_naive_twin(views: int, batch: int) -> None:
    student, teacher, centre = draw(views, views, batch)
    criterion = DinoLoss(7, student_temperature=0.3, teacher_temperature=0.2)
    criterion.centre.copy_(torch.from_numpy(centre))
    centre = criterion.centre.numpy()
    loss = criterion(torch.from_numpy(student), torch.from_numpy(teacher))
    assert loss.item() == pytest.approx(naive(student, teacher, centre, batch, 0.3, 0.2), abs=1e-5)


def test_the_gradient_is_the_slope_of_the_naive_twin() -> None:
    student, teacher, centre = draw(1, 4, 2, 3)
    criterion = DinoLoss(3, student_temperature=0.5, teacher_temperature=0.4)
    criterion.centre.copy_(torch.from_numpy(centre))
    centre = criterion.centre.numpy()
    raw = torch.from_numpy(student).requires_grad_()
    (gradient,) = torch.autograd.grad(criterion(raw, torch.from_numpy(teacher)), raw)
    for place in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[place] = 1e-5
        higher, lower = (naive(student + sign * step, teacher, centre, 2, 0.5, 0.4) for sign in (1, -1))
        assert gradient[place].item() == pytest.approx((higher - lower) / 2e-5, abs=1e-6)


def test_the_loss_leaves_the_centre_alone_and_the_teacher_without_gradient() -> None:
    student, teacher, _ = (torch.from_numpy(array).requires_grad_() for array in draw(2))
    criterion = DinoLoss(7)
    criterion(student, teacher).backward()
    assert torch.equal(criterion.centre, torch.zeros(7))
    assert student.grad is not None
    assert teacher.grad is None


def test_the_centre_is_a_moving_average_that_is_saved() -> None:
    criterion = DinoLoss(2, centre_momentum=0.75)
    criterion.update(torch.tensor([[4.0, 0.0], [0.0, 8.0]]))
    torch.testing.assert_close(criterion.centre, torch.tensor([0.5, 1.0]))
    criterion.update(torch.tensor([[0.5, 3.0]]))
    torch.testing.assert_close(criterion.centre, torch.tensor([0.5, 1.5]))
    assert list(criterion.state_dict()) == ["centre"]


def test_the_mean_of_all_processes_moves_the_centre_as_their_rows_do() -> None:
    _, teacher, _ = draw(3, batch=4)
    rows = torch.from_numpy(teacher)
    whole, shared = DinoLoss(7), DinoLoss(7)
    whole.update(rows)
    shared.update(rows.view(2, 4, 7).mean(1).mean(0, keepdim=True))
    torch.testing.assert_close(shared.centre, whole.centre)


def test_a_teacher_that_only_shifts_by_the_centre_teaches_the_uniform_distribution() -> None:
    criterion = DinoLoss(8)
    criterion.centre.copy_(torch.arange(8.0))
    probabilities = criterion.probabilities(torch.arange(8.0).expand(3, 8))
    torch.testing.assert_close(probabilities, torch.full((3, 8), 1 / 8))


def test_low_precision_surroundings_do_not_touch_the_loss() -> None:
    student, teacher, _ = (torch.from_numpy(array).float() for array in draw(4))
    criterion = DinoLoss(7)
    plain = criterion(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(criterion(student, teacher), plain)


def test_outputs_that_are_not_finite_are_not_hidden() -> None:
    student, teacher, _ = (torch.from_numpy(array) for array in draw(5))
    student[2, 3] = torch.nan
    assert DinoLoss(7)(student, teacher).isnan()


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((6, 8), (4, 8), r"\(6, 8\) and \(4, 8\); this loss needs rows of 7 outputs"),
        ((6, 7), (4, 1), r"\(6, 7\) and \(4, 1\)"),
        ((6, 7, 1), (4, 7), r"\(6, 7, 1\)"),
        ((6, 7), (3, 7), "6 student rows do not fit 3 teacher rows"),
        ((2, 7), (4, 7), "2 student rows do not fit 4 teacher rows"),
        ((7, 7), (4, 7), "7 student rows do not fit 4"),
        ((0, 7), (0, 7), "0 student rows do not fit 0"),
    ],
)
def test_shapes_that_do_not_fit_are_named(student: tuple[int, ...], teacher: tuple[int, ...], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        DinoLoss(7)(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": 0}, "outputs=0; it must be >= 1"),
        ({"student_temperature": 0.0}, "student_temperature=0.0; it must be > 0"),
        ({"teacher_temperature": -1.0}, "teacher_temperature=-1.0; it must be > 0"),
        ({"centre_momentum": 1.0}, r"centre_momentum=1.0; it must be in \[0, 1\)"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DinoLoss(**{"outputs": 7, **arguments})
