import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from reidkit.pretrain.head import DinoHead, clip_gradients, freeze_last


def head() -> DinoHead:
    torch.manual_seed(0)
    return DinoHead(6, 20, hidden=16, bottleneck=5)


def backward(module: DinoHead) -> None:
    module(torch.randn(4, 6, generator=torch.Generator().manual_seed(1))).square().sum().backward()


def test_the_default_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in DinoHead(384).state_dict().items()}
    assert shapes == {
        "mlp.0.weight": (2048, 384),
        "mlp.0.bias": (2048,),
        "mlp.2.weight": (2048, 2048),
        "mlp.2.bias": (2048,),
        "mlp.4.weight": (256, 2048),
        "mlp.4.bias": (256,),
        "last_layer.weight": (65_536, 256),
    }


def test_outputs_are_cosines_with_the_rows_of_the_last_layer() -> None:
    module, features = head(), torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    outputs = module(features)
    weights = {name: value.detach().double() for name, value in module.named_parameters()}
    for image, feature in enumerate(features.double()):
        hidden = F.gelu(weights["mlp.0.weight"] @ feature + weights["mlp.0.bias"])
        hidden = F.gelu(weights["mlp.2.weight"] @ hidden + weights["mlp.2.bias"])
        point = weights["mlp.4.weight"] @ hidden + weights["mlp.4.bias"]
        for output, row in enumerate(weights["last_layer.weight"]):
            cosine = float(point @ row) / float(point.norm() * row.norm())
            assert outputs[image, output].item() == pytest.approx(cosine, abs=1e-6)


def test_the_norm_of_the_last_layer_does_not_count() -> None:
    module, features = head(), torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    before = module(features)
    with torch.no_grad():
        module.last_layer.weight.mul_(torch.linspace(0.1, 10, 20)[:, None])
    torch.testing.assert_close(module(features), before)


def test_weights_start_as_in_the_public_code() -> None:
    torch.manual_seed(0)
    module = DinoHead(64, 8, hidden=128, bottleneck=32)
    for name, value in module.mlp.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert value.std().item() == pytest.approx(0.02, rel=0.05)
    # That of a linear layer of torch: evenly spread within 1 / sqrt(inputs).
    assert module.last_layer.weight.abs().max().item() == pytest.approx(32**-0.5, rel=0.05)


def test_a_frozen_last_layer_keeps_still_and_the_others_move() -> None:
    module = head()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.4)
    backward(module)
    freeze_last(module, 0)
    optimizer.step()
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before) - {"last_layer.weight"}


def test_the_last_layer_learns_after_its_epochs() -> None:
    module = head()
    backward(module)
    freeze_last(module, 1)
    freeze_last(module, 2, epochs=2)
    assert module.last_layer.weight.grad is not None
    freeze_last(module, 1, epochs=2)
    assert module.last_layer.weight.grad is None


def test_every_gradient_is_clipped_by_its_own_norm() -> None:
    rng = np.random.default_rng(0)
    scales = (0.01, 1.0, 50.0, 0.0)
    parameters = [nn.Parameter(torch.zeros(3, 4)) for _ in scales]
    expected, norms = [], []
    for parameter, scale in zip(parameters, scales, strict=True):
        gradient = rng.standard_normal((3, 4)) * scale
        parameter.grad = torch.from_numpy(gradient).float()
        norms.append(float(np.sqrt((gradient**2).sum())))
        expected.append(gradient * min(1.0, 3.0 / (norms[-1] + 1e-6)))
    found = clip_gradients([parameters[0], nn.Parameter(torch.zeros(2)), *parameters[1:]])
    np.testing.assert_allclose(found, norms, rtol=1e-5)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-5)


def test_small_gradients_are_left_bit_for_bit_and_none_is_fine() -> None:
    parameter = nn.Parameter(torch.zeros(5))
    parameter.grad = torch.linspace(-1, 1, 5)
    clip_gradients([parameter])
    assert torch.equal(parameter.grad, torch.linspace(-1, 1, 5))
    assert clip_gradients([nn.Parameter(torch.zeros(2))]).shape == (0,)
