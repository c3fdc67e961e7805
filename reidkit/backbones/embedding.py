"""The model that is trained and that retrieves: a backbone and a batch-normalisation neck."""

from typing import Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional

from reidkit.errors import ConfigError

__all__ = ["EmbeddingModel", "Embeddings"]


class Embeddings(NamedTuple):
    """The features of one batch, neither L2-normalised, in float32."""

    before_neck: Tensor
    """The backbone's features (B, D): what the triplet loss of supervised training sees."""
    after_neck: Tensor
    """The same after the neck (B, D): what memory banks and classifiers see."""


class EmbeddingModel(nn.Module):
    """A backbone and its BN neck: BatchNorm1d with the bias frozen at 0 (BNNeck; Luo et al., CVPRW 2019).

    Args:
        backbone: What `create_backbone` returns: images (B, 3, H, W) to features (B, D), with `feature_dim` and
            `image_size`.
        retrieval: Where retrieval and clustering take their feature: `after_neck` (USL and UDA) or `before_neck`
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
        self.bottleneck = nn.BatchNorm1d(self.feature_dim)
        self.bottleneck.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Embeddings:
        """Return the features of images (B, 3, H, W) before and after the neck."""
        # Under mixed precision the features leave the backbone in bfloat16; what follows is too small to gain by it.
        before = self.backbone(images).float()
        return Embeddings(before, self.bottleneck(before))

    def embed(self, images: Tensor) -> Tensor:
        """Return the L2-normalised retrieval features (B, D) of images (B, 3, H, W)."""
        return functional.normalize(getattr(self(images), self.retrieval), dim=1)
