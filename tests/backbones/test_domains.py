import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reidkit.backbones import (
    EmbeddingModel,
    create_backbone,
    load_weights,
    merge_domains,
    source_statistics,
    split_domains,
)
from reidkit.backbones.domains import DomainBatchNorm
from reidkit.backbones.stem import InstanceBatchNorm2d
from reidkit.errors import ConfigError, TrainingError
from tests.backbones.golden_weights import TINY, fill

SHAPES = {"neck": (6, 4), "map": (6, 4, 5, 3)}


def plain_norm(shape: tuple[int, ...], **options: Any) -> nn.BatchNorm1d | nn.BatchNorm2d:
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1], **options)
    fill(norm)
    return norm


def split(norm: nn.Module) -> Any:
    """The domain twin of a copy of a normalisation."""
    model = nn.Sequential(copy.deepcopy(norm))
    split_domains(model)
    return model[0]


def embedding_model(name: str = "vit_tiny_ics") -> EmbeddingModel:
    torch.manual_seed(0)
    model = EmbeddingModel(create_backbone(name, image_size=(32, 16), **TINY))
    fill(model)
    model.bottleneck.bias.data.zero_()
    return model


def batches(shape: tuple[int, ...], count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Pairs of a source batch and a target batch of other mean and spread."""
    generator = torch.Generator().manual_seed(1)
    draw = [torch.randn(2, *shape, generator=generator) for _ in range(count)]
    return [(source, 3 + 2 * target) for source, target in draw]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"momentum": 0.3, "eps": 0.1}])
@pytest.mark.parametrize("low_precision", [False, True])
def test_halves_equal_two_plain_ones_fed_apart(
    shape: tuple[int, ...], options: dict[str, Any], low_precision: bool
) -> None:
    source_twin = plain_norm(shape, **options)
    target_twin, both = copy.deepcopy(source_twin), split(source_twin)
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        for source, target in batches(shape):
            if low_precision:
                source, target = source.bfloat16(), target.bfloat16()
            expected = torch.cat((source_twin(source), target_twin(target)))
            result = both(torch.cat((source, target)))
            assert result.dtype == expected.dtype
            torch.testing.assert_close(result, expected)
        assert_same(
            {"mean": both.source_mean, "var": both.source_var},
            {"mean": source_twin.get_buffer("running_mean"), "var": source_twin.get_buffer("running_var")},
        )
        assert_same(dict(both.merge().named_buffers()), dict(target_twin.named_buffers()))

        for module in (source_twin, target_twin, both):
            module.eval()
        odd = source[:5]
        torch.testing.assert_close(both(odd), target_twin(odd))
        with source_statistics(both):
            torch.testing.assert_close(both(odd), source_twin(odd))
        torch.testing.assert_close(both(odd), target_twin(odd))


def test_gradients_are_those_of_both_halves() -> None:
    plain = plain_norm(SHAPES["map"])
    twins = [copy.deepcopy(plain), copy.deepcopy(plain)]
    both = split(plain)
    ((source, target),) = batches(SHAPES["map"], 1)
    both(torch.cat((source, target))).square().sum().backward()
    for twin, half in zip(twins, (source, target), strict=True):
        twin(half).square().sum().backward()
    for name in ("weight", "bias"):
        expected = sum(twin.get_parameter(name).grad for twin in twins)  # type: ignore[misc]
        torch.testing.assert_close(both.get_parameter(name).grad, expected)


@pytest.mark.parametrize("training", [True, False])
def test_instance_and_batch_halves_of_the_stem(training: bool) -> None:
    source_twin = InstanceBatchNorm2d(8)
    fill(source_twin)
    target_twin, both = copy.deepcopy(source_twin), copy.deepcopy(source_twin)
    split_domains(both)
    for module in (source_twin, target_twin, both):
        module.train()
    for source, target in batches((4, 8, 5, 3)):
        expected = torch.cat((source_twin(source), target_twin(target)))
        torch.testing.assert_close(both(torch.cat((source, target))), expected)
    if not training:
        for module in (source_twin, target_twin, both):
            module.eval()
        torch.testing.assert_close(both(source), target_twin(source))
        with source_statistics(both):
            torch.testing.assert_close(both(source), source_twin(source))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_whole_model_with_its_neck_equals_two_models(precision: torch.dtype) -> None:
    source_twin, target_twin, both = embedding_model(), embedding_model(), embedding_model()
    split_domains(both)
    # In low precision a product may depend on the size of its batch.
    close = 1e-4 if precision == torch.float32 else 0.1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        for source, target in batches((8, 3, 32, 16)):
            one, other, joint = source_twin(source), target_twin(target), both(torch.cat((source, target)))
            for field in one._fields:
                expected = torch.cat((getattr(one, field), getattr(other, field)))
                torch.testing.assert_close(getattr(joint, field), expected, atol=close, rtol=close)
        for model in (source_twin, target_twin, both):
            model.eval()
        torch.testing.assert_close(both.embed(target), target_twin.embed(target), atol=close, rtol=close)
        with source_statistics(both):
            torch.testing.assert_close(both.embed(source), source_twin.embed(source), atol=close, rtol=close)


def test_a_split_model_keeps_parameters_names_and_frozen_bias() -> None:
    model = embedding_model()
    names, parameters = list(model.state_dict()), [id(parameter) for parameter in model.parameters()]
    split_domains(model)
    added = [f"{path}.{name}" for path in _norms(model) for name in ("source_mean", "source_var")]
    assert len(added) == 2 * 4  # three in the stem, one neck
    assert sorted(model.state_dict()) == sorted(names + added)
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["bottleneck.bias"]


def _norms(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, DomainBatchNorm)]


def test_splitting_twice_is_splitting_once() -> None:
    model = embedding_model()
    split_domains(model)
    modules = list(model.modules())
    split_domains(model)
    assert list(model.modules()) == modules


@pytest.mark.parametrize("training", [True, False])
def test_merging_brings_the_plain_model_back(training: bool) -> None:
    model, plain = embedding_model().train(training), embedding_model()
    parameters = [id(parameter) for parameter in model.parameters()]
    split_domains(model)
    merge_domains(model)
    assert_same(model.state_dict(), plain.state_dict())
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert repr(model) == repr(plain)
    assert {module.training for module in model.modules()} == {training}


def test_a_plain_state_loads_and_the_source_starts_from_it() -> None:
    plain, both = embedding_model(), embedding_model()
    split_domains(both)
    plain.bottleneck.running_mean = torch.arange(32.0)
    both.load_state_dict(plain.state_dict())
    assert torch.equal(both.get_buffer("bottleneck.running_mean"), torch.arange(32.0))
    assert torch.equal(both.get_buffer("bottleneck.source_mean"), torch.arange(32.0))


def _trained() -> EmbeddingModel:
    model = embedding_model()
    split_domains(model)
    ((source, target),) = batches((4, 3, 32, 16), 1)
    model(torch.cat((source, target)))
    return model


def test_the_state_of_a_split_model_is_whole() -> None:
    model, other = _trained(), embedding_model()
    split_domains(other)
    other.load_state_dict(model.state_dict())
    assert_same(other.state_dict(), model.state_dict())
    assert not torch.equal(model.get_buffer("bottleneck.source_mean"), model.get_buffer("bottleneck.running_mean"))


def test_its_checkpoint_loads_into_a_plain_model_with_the_targets_statistics(tmp_path: Path) -> None:
    model, plain = _trained(), embedding_model()
    torch.save({"model": model.state_dict()}, tmp_path / "joint.pt")
    report = load_weights(plain, tmp_path / "joint.pt")
    assert sorted(report.skipped) == sorted(
        f"{path}.{name}" for path in _norms(model) for name in ("source_mean", "source_var")
    )
    assert report.fresh == ()
    merge_domains(model)
    assert_same(plain.state_dict(), model.state_dict())


def test_an_odd_batch_is_refused_in_training_and_taken_in_evaluation() -> None:
    norm = split(nn.BatchNorm1d(4))
    with pytest.raises(TrainingError, match="batch of 5 images cannot be halved"):
        norm(torch.randn(5, 4))
    assert norm.eval()(torch.randn(5, 4)).shape == (5, 4)


@pytest.mark.parametrize(
    "norm", [nn.SyncBatchNorm(4), nn.BatchNorm3d(4), nn.BatchNorm2d(4, track_running_stats=False)], ids=repr
)
def test_what_cannot_be_split_is_named_and_nothing_changes(norm: nn.Module) -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), norm)
    with pytest.raises(ConfigError, match=rf"statistics of '1' \({type(norm).__name__}\) cannot be kept per domain"):
        split_domains(model)
    assert isinstance(model[0], nn.BatchNorm2d)


def test_a_plain_model_has_no_statistics_of_a_source() -> None:
    with (
        pytest.raises(ConfigError, match="no batch statistics of a source; split it first"),
        source_statistics(embedding_model()),
    ):
        pass


def test_an_error_inside_source_statistics_leaves_the_target_in_force() -> None:
    norm = split(nn.BatchNorm1d(4))
    with pytest.raises(KeyError), source_statistics(norm), source_statistics(norm):
        raise KeyError
    assert not norm.of_source
    with source_statistics(norm):
        with source_statistics(norm):
            pass
        assert norm.of_source
