"""Labels of an epoch from the features at its start."""

import logging
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering import ClusteringConfig, JaccardDBSCAN

__all__ = ["EpochLabels", "PseudoLabeler"]

logger = logging.getLogger(__name__)


class EpochLabels(NamedTuple):
    """What an epoch trains on."""

    labels: NDArray[np.int64]
    """(N,) class of every image, -1 is noise."""
    kind: Literal["clusters", "instances"]
    """From clustering, or every image a class of its own."""

    @property
    def clusters(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    @property
    def noise(self) -> int:
        """Images without a class."""
        return int((self.labels < 0).sum())


class PseudoLabeler:
    """Clusters features into pseudo-labels; falls back on instance discrimination.

    In the first `warmup_epochs` epochs every image is a class of its own. So it is in an epoch whose clustering finds
    fewer than two clusters: with none there is nothing to learn, with one the softmax over clusters is constant.
    Telling images apart spreads the features, after which clusters can form; the training goes on and says so.

    Args:
        config: Parameters of the clustering.
        warmup_epochs: Epochs of instance discrimination at the start.
    """

    def __init__(self, config: ClusteringConfig, warmup_epochs: int = 0) -> None:
        self._config = config
        self._warmup_epochs = warmup_epochs

    def __call__(self, features: NDArray[np.float32], epoch: int) -> EpochLabels:
        """Label the training images (N, D) for an epoch, counted from 1."""
        if epoch <= self._warmup_epochs:
            return _instances(len(features))
        config = self._config
        clusterer = JaccardDBSCAN(**config.model_dump())
        found = EpochLabels(clusterer.fit_predict(features).astype(np.int64), "clusters")
        if found.clusters >= 2:
            return found
        what, remedy = (
            (f"all {len(features):,} images were labelled noise", "raise --eps or lower --min-samples")
            if found.clusters == 0
            else (f"{len(features) - found.noise:,} images fell into one cluster", "lower --eps")
        )
        logger.warning(
            "epoch %d: %s at eps=%g, min_samples=%d: this epoch trains every image as a class of its own. "
            "If it happens again, %s",
            epoch,
            what,
            config.eps,
            config.min_samples,
            remedy,
        )
        return _instances(len(features))


def _instances(count: int) -> EpochLabels:
    return EpochLabels(np.arange(count, dtype=np.int64), "instances")
