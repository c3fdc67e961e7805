"""The model that is trained and that retrieves: a backbone and a batch-normalisation neck."""

from typing import Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional

from reidkit.errors import ConfigError

__all__ = ["EmbeddingModel", "Embeddings"]


class Embeddings(NamedTuple):
    """The features of one batch, neither L2-normalised, in float32."""

    before_neck: Tensor
    """The backbone's features (B, D): the input of the triplet loss of supervised training."""
    after_neck: Tensor
    """The same after the neck (B, D): the input of memory banks and classifiers."""


class EmbeddingModel(nn.Module):
    """A backbone and its BN neck: BatchNorm1d with the bias frozen at 0 (BNNeck; Luo et al., CVPRW 2019).

    Args:
        backbone: From `create_backbone`: images (B, 3, H, W) to features (B, D), with `feature_dim`,
            `image_size` and `sie_cameras`.
        retrieval: The feature of retrieval and clustering: `after_neck` (USL and UDA) or `before_neck`
            (supervised training).

    Raises:
        ConfigError: `retrieval` is neither of the two.
    """

    def __init__(self, backbone: nn.Module, *, retrieval: Literal["after_neck", "before_neck"] = "after_neck") -> None:
        super().__init__()
        if retrieval not in Embeddings._fields:
            raise ConfigError(f"retrieval={retrieval!r} is none of {', '.join(Embeddings._fields)}; choose one")
        self.backbone = backbone
        self.retrieval = retrieval
        self.feature_dim = cast(int, backbone.feature_dim)
        self.image_size = cast(tuple[int, int], backbone.image_size)
        self.sie_cameras = cast(int, backbone.sie_cameras)
        self.bottleneck = nn.BatchNorm1d(self.feature_dim)
        self.bottleneck.bias.requires_grad_(False)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Embeddings:
        """Return the features of images (B, 3, H, W) before and after the neck.

        Args:
            images: Normalised images.
            cameras: (B,) int64 camera of each image, -1 if unknown; None: all are unknown. Only a backbone with
                `sie_cameras` uses them.
        """
        features = self.backbone(images, cameras) if self.sie_cameras else self.backbone(images)
        # Under mixed precision the backbone returns bfloat16; the neck is too small to gain by it.
        before = features.float()
        return Embeddings(before, self.bottleneck(before))

    def reset_neck(self) -> None:
        """Reset the neck to its initial values: UDA takes over only the backbone of the source."""
        self.bottleneck.reset_parameters()

    def embed(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """Return the L2-normalised retrieval features (B, D) of images (B, 3, H, W); cameras as in `forward`."""
        return functional.normalize(getattr(self(images, cameras), self.retrieval), dim=1)
