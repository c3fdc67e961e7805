import pytest
import torch
from torch.nn import functional

from reidkit.backbones.stem import ConvStem, InstanceBatchNorm2d
from reidkit.errors import ConfigError
from tests.backbones.golden_weights import fill


@pytest.mark.parametrize("training", [True, False])
def test_ibn_normalises_one_half_by_image_and_the_other_by_batch(training: bool) -> None:
    torch.manual_seed(0)
    ibn = InstanceBatchNorm2d(6)
    fill(ibn)
    ibn.train(training)
    mean, var = ibn.BN.running_mean, ibn.BN.running_var
    assert mean is not None
    assert var is not None
    mean, var = mean.clone(), var.clone()
    x = torch.randn(4, 6, 5, 3)

    expected = torch.empty_like(x)
    for channel in range(6):
        for image in range(4):
            if channel < 3:
                values, weight, bias = x[image, channel], ibn.IN.weight[channel], ibn.IN.bias[channel]
                m, v = values.mean(), values.var(correction=0)
            else:
                values, weight, bias = x[:, channel], ibn.BN.weight[channel - 3], ibn.BN.bias[channel - 3]
                m, v = (values.mean(), values.var(correction=0)) if training else (mean[channel - 3], var[channel - 3])
            expected[image, channel] = (x[image, channel] - m) / (v + 1e-5).sqrt() * weight + bias

    torch.testing.assert_close(ibn(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patch", [16, 8])
def test_tokens_are_the_projection_convolution_row_by_row(patch: int) -> None:
    torch.manual_seed(0)
    size = (3 * patch, 2 * patch)
    stem = ConvStem(size, embed_dim=10, patch_size=patch).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps = functional.conv2d(stem.conv(images), stem.proj.weight, stem.proj.bias, stride=patch // 2)
        tokens = stem(images)
    assert tokens.shape == (2, 6, 10)
    assert stem.num_patches == 6
    for row in range(3):
        for column in range(2):
            torch.testing.assert_close(tokens[:, 2 * row + column], maps[:, :, row, column], atol=1e-5, rtol=1e-5)


def test_fresh_weights_keep_the_scale_of_the_signal() -> None:
    torch.manual_seed(0)
    stem = ConvStem((32, 32), embed_dim=64)
    tokens = stem(torch.randn(8, 3, 32, 32))
    assert 0.1 < tokens.std() < 1.0


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="64x64 pixels reached a backbone made for 64x32"):
        ConvStem((64, 32), embed_dim=8)(torch.zeros(1, 3, 64, 64))
