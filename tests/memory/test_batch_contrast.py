import numpy as np
import pytest
import torch

from reidkit.memory import batch_contrast
from tests import naive


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_naive_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.standard_normal((12, 5)).astype(np.float32), rng.integers(0, 6, 12)
    loss = batch_contrast(torch.from_numpy(features), torch.from_numpy(labels), temperature=0.2)
    assert loss.item() == pytest.approx(naive.batch_contrast(features, labels, temperature=0.2), abs=1e-5)


def test_two_views_of_each_image_give_simclrs_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    views = torch.nn.functional.normalize(torch.randn(8, 6, generator=generator))
    labels = torch.arange(4).repeat_interleave(2)
    similarity = (views @ views.t() / 0.1).fill_diagonal_(-torch.inf)
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    expected = torch.nn.functional.cross_entropy(similarity, partner)
    torch.testing.assert_close(batch_contrast(views, labels, temperature=0.1), expected)


def test_a_batch_without_partners_has_no_loss_and_no_nan_gradient() -> None:
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    loss = batch_contrast(features, torch.arange(3))
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros(3, 4))


def test_gradients_are_finite() -> None:
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    (gradient,) = torch.autograd.grad(batch_contrast(features, torch.tensor([0, 0, 1, 1, 2, 3])), features)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
