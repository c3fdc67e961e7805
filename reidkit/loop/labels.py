"""Labels of an epoch from the features at its start."""

import logging
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering import ClusteringConfig, create_clusterer
from reidkit.distributed import ALONE, ProcessGroup
from reidkit.errors import DataError

__all__ = ["EpochLabels", "Features", "PseudoLabeler", "ground_truth", "instances", "watch_noise"]

logger = logging.getLogger(__name__)

_MUCH_NOISE, _MORE_NOISE = 0.9, 0.3

Features = NDArray[np.float32]
"""(N, D) features of the training images, L2-normalised."""


class EpochLabels(NamedTuple):
    """Classes of the training images in an epoch."""

    labels: NDArray[np.int64]
    """(N,) class of every image, -1 is noise."""
    kind: Literal["clusters", "instances", "identities"]
    """From clustering, every image a class by itself, or ground truth."""
    graph: Any = None
    """(N, N) sparse distances on which clusters were found, or None."""
    found: "EpochLabels | None" = None
    """Where the labels join the classes of a source to clusters of the target: these clusters alone."""

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

    In an epoch whose clustering finds fewer than two clusters every image is a class by itself: with none there is
    nothing to learn, with one the softmax over clusters is constant. Telling images apart spreads the features, after
    which clusters can form; the training goes on and says so.

    Args:
        config: Parameters of the clustering.
        device: The run's device, as torch names it; it searches the neighbours unless the settings name another.
        group: Processes that share the clustering: all call, with the same features, and get the same labels.
    """

    def __init__(self, config: ClusteringConfig, *, device: str = "cpu", group: ProcessGroup = ALONE) -> None:
        self._config, self._device, self._group = config, device, group

    def __call__(self, features: Features, epoch: int) -> EpochLabels:
        """Label the training images, features (N, D), for an epoch, counted from 1."""
        config = self._config
        clusterer = create_clusterer(config, device=self._device, group=self._group.group).fit(features)
        found = EpochLabels(clusterer.labels_, "clusters", clusterer.graph_)
        if found.clusters >= 2:
            return found
        if self._group.is_main:
            self._warn(found, epoch)
        return instances(len(features))

    def _warn(self, found: EpochLabels, epoch: int) -> None:
        """Say that there are too few clusters, and what to change."""
        config, count = self._config, len(found.labels)
        hierarchical = config.method == "hdbscan"
        if found.clusters == 0:
            what = f"all {count:,} images were labelled noise"
            remedy = "lower clustering.min_cluster_size" if hierarchical else "raise --eps or lower --min-samples"
        else:
            what = f"{count - found.noise:,} images fell into one cluster"
            remedy = "lower clustering.k1" if hierarchical else "lower --eps"
        logger.warning(
            "epoch %d: %s at %s=%g, min_samples=%d: this epoch trains every image as a class by itself. "
            "If it happens again, %s",
            epoch,
            what,
            "min_cluster_size" if hierarchical else "eps",
            config.min_cluster_size if hierarchical else config.eps,
            config.min_samples,
            remedy,
        )


def watch_noise(labels: EpochLabels, epoch: int, config: ClusteringConfig, *, before: float | None) -> None:
    """Warn of clusters that hold hardly any image, or far fewer than an epoch ago.

    Args:
        labels: Labels of the epoch; those that no clustering found are not looked at.
        epoch: Its number.
        config: Parameters of the clustering.
        before: Share of noise in the epoch before; None where nothing was clustered.
    """
    share = labels.noise / len(labels.labels)
    much, more = share > _MUCH_NOISE, before is not None and share - before > _MORE_NOISE
    if labels.kind != "clusters" or not (much or more):
        return
    remedy = "lower clustering.min_cluster_size" if config.method == "hdbscan" else "raise --eps or lower --min-samples"
    logger.warning(
        "epoch %d: %.0f %% of the images are noise%s: the training sees the others only. If it stays so, %s%s",
        epoch,
        100 * share,
        f", after {before:.0%} in the epoch before" if more else "",
        remedy,
        ", or lower the learning rate: features that were good have been lost" if more else "",
    )


def instances(count: int) -> EpochLabels:
    """Every image a class by itself: labels of instance discrimination."""
    return EpochLabels(np.arange(count, dtype=np.int64), "instances")


def ground_truth(identities: NDArray[np.int64]) -> EpochLabels:
    """Identities (N,) 0..C-1 as labels; -1 is unknown and left out.

    Raises:
        DataError: No identity is known.
    """
    if not (identities >= 0).any():
        raise DataError(
            f"none of {len(identities):,} training images has an identity in its name; supervised epochs need names "
            "such as 0002_c1s1_000451_03.jpg"
        )
    return EpochLabels(identities, "identities")
