import pytest
import torch

from reidkit.backbones import GeM


@pytest.mark.parametrize("p", [1.0, 3.0, 4.5])
def test_generalised_mean_follows_its_formula(p: float) -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 5)
    pooled = GeM(p)(maps)
    for image in range(2):
        for channel in range(3):
            mean = sum(float(value) ** p for value in maps[image, channel].flatten()) / 20
            assert float(pooled[image, channel].detach()) == pytest.approx(mean ** (1 / p), rel=1e-5)


def test_lies_between_mean_and_maximum_and_ignores_negative_values() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 5)
    pooled = GeM()(maps)
    positive = maps.clamp(min=1e-6)
    assert (pooled > positive.mean((2, 3))).all()
    assert (pooled < positive.amax((2, 3))).all()


def test_exponent_is_learned() -> None:
    gem = GeM()
    gem(torch.rand(1, 2, 3, 3)).sum().backward()
    assert gem.p.grad is not None
    assert gem.p.grad.abs().item() > 0


def test_stays_exact_under_mixed_precision() -> None:
    maps = torch.rand(1, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = GeM()(maps)
    torch.testing.assert_close(pooled, GeM()(maps))
