"""Checks of features before they are ranked."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reidkit.errors import EvaluationError

__all__ = ["as_features", "check_same_dimensions"]


def as_features(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return features (images, dimensions) as a contiguous float32 array.

    Raises:
        EvaluationError: They have another shape, or NaN or infinite values.
    """
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2:
        raise EvaluationError(f"{name} features have shape {array.shape}; expected (images, dimensions)")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array).all(axis=1)).sum())
        raise EvaluationError(
            f"{bad:,} of {len(array):,} {name} features hold NaN or infinite values; the model has diverged or the "
            "feature file is damaged"
        )
    return array


def check_same_dimensions(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
    """Raise an EvaluationError if query (Q, D) and gallery (G, D) features differ in D."""
    if query.shape[1] != gallery.shape[1]:
        raise EvaluationError(
            f"query features have {query.shape[1]} dimensions and gallery features {gallery.shape[1]}; "
            "extract both with the same model"
        )
