import copy
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reidkit.backbones import EmbeddingModel
from reidkit.backbones.stem import ConvStem
from reidkit.loop import DECAYED, build_model
from reidkit.pretrain import Distillation, Projections, Rates, StudentAndTeacher, train_pretrain
from reidkit.runs import PretrainConfig
from tests.tiny import tiny_config, tiny_run

SETTINGS: dict[str, Any] = {"outputs": 12, "hidden": 16, "bottleneck": 8, "warmup_epochs": 1}


def model(seed: int = 0, name: str = "vit_tiny_ics") -> EmbeddingModel:
    return build_model(tiny_config("synthetic", backbone={"name": name}).backbone, seed)


def pair(**settings: Any) -> StudentAndTeacher:
    return StudentAndTeacher(model(0), model(1), PretrainConfig(**SETTINGS | settings))


def views(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, batch, 3, 32, 16, generator=generator), torch.randn(3, batch, 3, 16, 16, generator=generator)


def test_the_teacher_begins_as_the_student_and_has_no_gradient() -> None:
    network = pair()
    for name, weight in network.student.state_dict().items():
        assert torch.equal(weight, network.teacher.state_dict()[name])
    outputs = network(views())
    assert outputs.student.shape == (5 * 4, 12)
    assert outputs.teacher.shape == (2 * 4, 12)
    assert outputs.features.shape == (2 * 4, 32)
    assert not outputs.teacher.requires_grad
    outputs.student.sum().backward()
    assert not any(weight.requires_grad for weight in network.teacher.parameters())
    assert not any("_teacher" in name for name in network.state_dict())


def test_the_rows_of_both_are_in_the_order_that_the_loss_expects() -> None:
    network = pair().eval()
    network.teacher.eval()
    large, small = views()
    outputs = network((large, small))
    alone = network.student_head(network.student.backbone(large[1, 2:3]).float())
    torch.testing.assert_close(outputs.student[4 + 2 : 4 + 3], alone)
    torch.testing.assert_close(outputs.teacher, network.teacher_head(network.teacher.backbone(large.flatten(0, 1))))


def test_local_views_may_be_left_out() -> None:
    large, small = views()
    assert pair()((large, small[:0])).student.shape == (2 * 4, 12)


def test_the_neck_standardises_what_the_head_sees() -> None:
    network = pair(neck=True)
    features = network(views()).features
    torch.testing.assert_close(features.mean(0), torch.zeros(32), atol=1e-5, rtol=0)


def test_following_is_a_moving_average() -> None:
    network = pair()
    with torch.no_grad():
        for weight in (*network.student.parameters(), *network.student_head.parameters()):
            weight.add_(1)
    before = [weight.clone() for weight in (*network.teacher.parameters(), *network.teacher_head.parameters())]
    network.follow(0.75)
    after = [*network.teacher.parameters(), *network.teacher_head.parameters()]
    leaders = [*network.student.parameters(), *network.student_head.parameters()]
    for old, new, leader in zip(before, after, leaders, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * leader)


def test_a_step_sets_rates_clips_freezes_and_moves_centre_and_teacher() -> None:
    network = pair()
    config = PretrainConfig(**SETTINGS, clip=1e-3)
    rates = Rates(config, epochs=3, iterations=5, batch_size=4)
    distillation = Distillation(network, rates, config, 5).of_epoch(1)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": weights[:3]},
        {"params": weights[3:], "weight_decay": 0.0, DECAYED: False},
    ]
    optimizer = torch.optim.AdamW(groups)
    distillation.before_step(optimizer, 3)
    assert [group["lr"] for group in optimizer.param_groups] == [rates.learning_rate(2)] * 2
    assert [group["weight_decay"] for group in optimizer.param_groups] == [rates.weight_decay(2), 0.0]
    outputs = network(views())
    loss = distillation(outputs, torch.zeros(4))
    loss.backward()  # type: ignore[no-untyped-call]
    distillation.before_update()
    assert network.student_head.last_layer.weight.grad is None  # the first epoch is frozen
    norms = [weight.grad.norm() for weight in weights if weight.grad is not None]
    assert max(norms) <= 1.001e-3
    old = copy.deepcopy(network.teacher.state_dict())
    optimizer.step()
    distillation.update(outputs, torch.zeros(4))
    torch.testing.assert_close(network.loss.centre, 0.1 * outputs.teacher.mean(0))
    assert any(not torch.equal(old[name], weight) for name, weight in network.teacher.state_dict().items())
    distillation.of_epoch(2)
    distillation(network(views()), torch.zeros(4)).backward()  # type: ignore[no-untyped-call]
    distillation.before_update()
    assert network.student_head.last_layer.weight.grad is not None


def test_parts_of_a_batch_move_the_centre_once_by_all_rows() -> None:
    network = pair()
    config = PretrainConfig(**SETTINGS)
    distillation = Distillation(network, Rates(config, epochs=1, iterations=5, batch_size=4), config, 5).of_epoch(1)
    distillation.before_step(torch.optim.AdamW(network.student.parameters()), 1)
    generator = torch.Generator().manual_seed(1)
    parts = [Projections(torch.randn(6, 12), torch.randn(4, 12, generator=generator), torch.randn(4, 32)) for _ in "ab"]
    for part in parts:
        distillation(part, torch.zeros(2))
    distillation.update(parts[-1], torch.zeros(2))
    torch.testing.assert_close(network.loss.centre, 0.1 * torch.cat([part.teacher for part in parts]).mean(0))


def test_the_first_centre_may_be_that_of_the_first_batch() -> None:
    network = pair(first_centre="batch")
    config = PretrainConfig(**SETTINGS)
    distillation = Distillation(network, Rates(config, epochs=1, iterations=5, batch_size=4), config, 5).of_epoch(1)
    distillation.before_step(torch.optim.AdamW(network.student.parameters()), 1)
    outputs = network(views())
    distillation(outputs, torch.zeros(4))
    torch.testing.assert_close(network.loss.centre, outputs.teacher.mean(0))
    other = Projections(outputs.student, outputs.teacher + 1, outputs.features)
    distillation(other, torch.zeros(4))
    torch.testing.assert_close(network.loss.centre, outputs.teacher.mean(0))


def watch(teacher: torch.Tensor, features: torch.Tensor) -> tuple[dict[str, float], StudentAndTeacher]:
    network = pair()
    config = PretrainConfig(**SETTINGS)
    distillation = Distillation(network, Rates(config, epochs=1, iterations=5, batch_size=4), config, 5).of_epoch(1)
    distillation.before_step(torch.optim.AdamW(network.student.parameters()), 1)
    outputs = Projections(teacher, teacher, features)
    distillation(outputs, torch.zeros(len(teacher) // 2))
    distillation.update(outputs, torch.zeros(len(teacher) // 2))
    return distillation.metrics(), network


def test_signs_of_collapse_are_measured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    teacher = torch.randn(8, 12, generator=torch.Generator().manual_seed(0)) / 5
    basis = torch.eye(32)[:8]
    with caplog.at_level(logging.WARNING, "reidkit"):
        metrics, network = watch(teacher, basis)
    assert not caplog.records
    probabilities = ((teacher - network.loss.centre) / 0.04).softmax(1)
    entropy = -(probabilities * probabilities.log()).sum(1).mean() / math.log(12)
    assert metrics["teacher_entropy"] == pytest.approx(entropy.item(), rel=1e-4)
    assert metrics["feature_rank"] == pytest.approx(7, rel=1e-4)  # eight corners of a simplex span seven dimensions
    assert metrics["feature_spread"] == pytest.approx(math.sqrt(7 / 8), rel=1e-4)
    with caplog.at_level(logging.WARNING, "reidkit"):
        watch(torch.zeros(8, 12), basis)
        watch(teacher, torch.ones(8, 32))
    assert "all outputs are alike (teacher_entropy 1.000" in caplog.text
    assert "all images look the same to the teacher" in caplog.text


def test_without_a_step_there_is_nothing_to_say() -> None:
    config = PretrainConfig(**SETTINGS)
    rates = Rates(config, epochs=1, iterations=1, batch_size=4)
    assert Distillation(pair(), rates, config, 1).of_epoch(1).metrics() == {}


@pytest.mark.parametrize("first", ["batch", "zero"])
def test_a_skipped_first_step_leaves_no_trace_in_the_teacher(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The teacher's norms see the batch as well, and its outputs may be the first centre."""
    forward, trained = ConvStem.forward, iter(range(1000))

    def overflow(self: ConvStem, images: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = forward(self, images)
        return tokens * torch.inf if self.training and next(trained) == 0 else tokens  # the teacher looks first

    monkeypatch.setattr(ConvStem, "forward", overflow)
    settings = SETTINGS | {"neck": True, "first_centre": first}
    config = tiny_config(people, mode="pretrain", pretrain=settings, crops={"local_size": (16, 16)})
    run = tiny_run(tmp_path / "run", config)
    history = train_pretrain(config, run)
    assert [record.skipped for record in history[1:]] == [1, 0]
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    weights = checkpoint["model"] | checkpoint["heads"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    assert checkpoint["heads"]["0.started"]
    assert checkpoint["heads"]["0.loss.centre"].abs().sum() > 0
