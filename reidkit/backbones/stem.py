"""The IBN convolution stem (ICS) that takes the place of a ViT's patch projection."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidkit.errors import ConfigError

__all__ = ["PATCH", "ConvStem", "InstanceBatchNorm2d"]

PATCH = 16
"""Pixels along one side of a patch, in the paper."""

STEM_STRIDE = 2
"""Pixels of an image per position of the maps that the stem projects."""

_CHANNELS = 64


class InstanceBatchNorm2d(nn.Module):
    """IBN: instance normalisation of the first half of the channels, batch normalisation of the second.

    Instance statistics remove an image's contrast and colour cast, batch statistics keep the differences between
    images (Pan et al., "Two at Once", ECCV 2018, IBN-a). The children's names are those of published checkpoints.

    Args:
        channels: Even number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps (B, channels, H, W)."""
        by_instance, by_batch = maps.chunk(2, dim=1)
        return torch.cat((self.IN(by_instance), self.BN(by_batch)), dim=1)


class ConvStem(nn.Module):
    """Images to patch tokens: three convolutions at half resolution, then one projection per patch.

    Conv 7x7 stride 2, IBN, ReLU; Conv 3x3, IBN, ReLU; Conv 3x3, BatchNorm, ReLU; Conv 8x8 stride 8 with bias (for
    16 x 16 patches; TransReID-SSL, arXiv 2111.12084, section 3.3). Fits timm's `VisionTransformer` as its patch
    embedding.

    Args:
        image_size: Height and width in pixels, multiples of the patch.
        embed_dim: Width D of the tokens.
        patch_size: Pixels along one side of a patch, an even number.
    """

    def __init__(self, image_size: tuple[int, int], embed_dim: int, patch_size: int = PATCH) -> None:
        super().__init__()
        self.img_size = image_size
        self.grid_size = (image_size[0] // patch_size, image_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.conv = nn.Sequential(
            nn.Conv2d(3, _CHANNELS, kernel_size=7, stride=STEM_STRIDE, padding=3, bias=False),
            InstanceBatchNorm2d(_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(_CHANNELS, _CHANNELS, kernel_size=3, padding=1, bias=False),
            InstanceBatchNorm2d(_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(_CHANNELS, _CHANNELS, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(_CHANNELS),
            nn.ReLU(inplace=True),
        )
        side = patch_size // STEM_STRIDE
        self.proj = nn.Conv2d(_CHANNELS, embed_dim, kernel_size=side, stride=side)
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the patch tokens (B, T, D) of images (B, 3, H, W), row by row.

        Raises:
            ConfigError: The images are not of `image_size`.
        """
        if tuple(images.shape[-2:]) != self.img_size:
            raise ConfigError(
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels reached a backbone made for "
                f"{self.img_size[0]}x{self.img_size[1]}; resize the images or create it with their image_size"
            )
        return self.tokens(images)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the patch tokens (B, T, D) of images whose sides are any multiples of the patch, row by row.

        The projection is a convolution whose stride is its kernel: one matrix product over patches, which is faster.
        """
        maps = self.conv(images)
        side = self.proj.kernel_size[0]
        rows, columns = maps.shape[2] // side, maps.shape[3] // side
        patches = maps.reshape(-1, _CHANNELS, rows, side, columns, side)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, rows * columns, _CHANNELS * side**2)
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
