import pytest
import torch
from torch.nn import functional

from reidkit.backbones import Embeddings
from reidkit.loop import IdentityLoss, create_classifier


def test_identity_loss_is_the_smoothed_cross_entropy_after_the_neck() -> None:
    torch.manual_seed(0)
    classifier = create_classifier(6, 4)
    before, after, labels = torch.randn(5, 6), torch.randn(5, 6, requires_grad=True), torch.tensor([0, 3, 1, 1, 2])
    criterion = IdentityLoss(classifier, label_smoothing=0.1)
    loss = criterion(Embeddings(before, after), labels)
    target = functional.one_hot(labels, 4) * 0.9 + 0.1 / 4
    expected = -(target * (after @ classifier.weight.T).log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.autograd.backward(loss)
    assert classifier.weight.grad is not None
    assert classifier.weight.grad.abs().sum() > 0
    weight = classifier.weight.detach().clone()
    criterion.update(Embeddings(before, after), labels)
    assert torch.equal(classifier.weight, weight)


def test_first_logits_are_all_but_equal() -> None:
    torch.manual_seed(0)
    classifier = create_classifier(192, 300)
    assert classifier.bias is None
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
