"""Features, identities and cameras of the images that a run clustered."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import DataError
from reidkit.reporting.run import Clustering
from reidkit.storage import RUN_FEATURES, read_features

__all__ = ["Integers", "TrainingFeatures", "read_training_features"]

Integers = NDArray[np.int64]


class TrainingFeatures(NamedTuple):
    """Row by row the images of a clustering."""

    features: NDArray[np.float32]
    """(N, D), L2-normalised."""
    identities: Integers
    """(N,), -1 is unknown."""
    cameras: Integers
    """(N,), -1 is unknown."""


def read_training_features(folder: Path, clustering: Clustering) -> TrainingFeatures | str:
    """Read features.npz of a run folder; return in words why it cannot be used."""
    if not (folder / RUN_FEATURES).is_file():
        return f"{RUN_FEATURES} is missing: a run writes it in its last epoch, if that epoch clusters."
    try:
        stored = read_features(folder / RUN_FEATURES)
    except DataError as error:
        return f"{RUN_FEATURES} is damaged: {error}."
    if stored.paths != clustering.paths:
        return f"{RUN_FEATURES} is of other images than the labels of epoch {clustering.epoch}."
    features = stored.features.astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    unknown = np.full(len(features), -1, np.int64)
    return TrainingFeatures(
        features,
        unknown if stored.identities is None else stored.identities,
        unknown if stored.cameras is None else stored.cameras,
    )
