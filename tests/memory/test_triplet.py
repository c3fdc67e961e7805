import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reidkit.errors import ConfigError
from reidkit.memory import batch_hard_triplet


def naive(features: NDArray[Any], labels: NDArray[np.int64], margin: float | None) -> float:
    """The loss anchor by anchor, in double precision."""
    losses = []
    for a in range(len(labels)):
        positive, negative = -math.inf, math.inf
        for other in range(len(labels)):
            distance = math.dist(features[a], features[other])
            if labels[other] != labels[a]:
                negative = min(negative, distance)
            elif other != a:
                positive = max(positive, distance)
        if math.isfinite(positive) and math.isfinite(negative):
            gap = positive - negative
            losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, margin + gap))
    return sum(losses) / max(1, len(losses))


def test_golden_loss_and_gradient(golden: Callable[[str], dict[str, Any]]) -> None:
    data = golden("triplet_a")
    features, labels = torch.from_numpy(data["features"]).requires_grad_(), torch.from_numpy(data["labels"])
    loss = batch_hard_triplet(features, labels)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == pytest.approx(float(data["soft_margin_loss"]), abs=1e-6)
    np.testing.assert_allclose(gradient, data["grad"], atol=1e-6)
    hinge = batch_hard_triplet(features, labels, margin=0.3)
    assert hinge.item() == pytest.approx(float(data["margin_03_loss"]), abs=1e-6)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_twin(seed: int, margin: float | None) -> None:
    rng = np.random.default_rng(seed)
    # Nine labels for 14 images: some are alone, and count as negatives only.
    features, labels = rng.standard_normal((14, 3)).astype(np.float32), rng.integers(0, 9, 14)
    loss = batch_hard_triplet(torch.from_numpy(features), torch.from_numpy(labels), margin=margin)
    assert loss.item() == pytest.approx(naive(features, labels, margin), abs=1e-6)


def test_the_gradient_is_the_slope_of_the_naive_twin() -> None:
    rng = np.random.default_rng(7)
    features, labels = rng.standard_normal((8, 3)), np.array([0, 0, 0, 1, 1, 2, 2, 3])
    raw = torch.from_numpy(features).requires_grad_()
    (gradient,) = torch.autograd.grad(batch_hard_triplet(raw, torch.from_numpy(labels)), raw)
    for place in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[place] = 1e-5
        slope = (naive(features + step, labels, None) - naive(features - step, labels, None)) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]], ids=["no positive", "no negative"])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_a_batch_without_triplets_has_no_loss_and_no_gradient(labels: list[int], margin: float | None) -> None:
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor(labels), margin=margin)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(4, 3))


@pytest.mark.parametrize("margin", [None, 0.3])
def test_the_gradient_is_finite_where_images_coincide(margin: float | None) -> None:
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=margin)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == pytest.approx(naive(features.detach().numpy(), np.array([0, 0, 1, 1]), margin), abs=1e-6)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_close_images_far_from_the_origin_are_told_apart() -> None:
    features = 100 + torch.tensor([[0.0], [0.01], [0.03], [0.05]])
    labels = torch.tensor([0, 0, 1, 1])
    expected = naive(features.numpy(), labels.numpy(), 0.3)
    assert batch_hard_triplet(features, labels, margin=0.3).item() == pytest.approx(expected, abs=1e-6)


def test_features_that_are_not_finite_are_not_hidden() -> None:
    features = torch.tensor([[0.0], [1.0], [torch.nan], [2.0]])
    assert batch_hard_triplet(features, torch.tensor([0, 0, 1, 2])).isnan()


def test_low_precision_surroundings_do_not_touch_the_loss() -> None:
    features = torch.randn(8, 16, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(8) % 3
    plain = batch_hard_triplet(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(batch_hard_triplet(features, labels), plain)


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"margin=-0.1; it must be >= 0"):
        batch_hard_triplet(torch.eye(4), torch.tensor([0, 0, 1, 1]), margin=-0.1)
