"""Checks of features and parameters, made once by the public functions."""

from numbers import Integral
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import check_array

from reidkit.errors import ClusteringError

__all__ = [
    "check_count",
    "check_distance",
    "check_neighbourhood",
    "real_rows",
    "unit_rows",
]

_ROWS = 512


def real_rows(features: Any) -> NDArray[Any]:
    """Check that features are rows of real numbers; whether they are finite is found when they are scaled.

    Args:
        features: (N, D) real numbers, N and D at least 1.

    Returns:
        (N, D) float32 or float64, the same memory where it was that already.

    Raises:
        ClusteringError: A wrong shape, no rows, complex numbers, text or a sparse matrix.
    """
    if issparse(features):
        raise ClusteringError("sparse features cannot be clustered; pass a dense array (`features.toarray()`)")
    try:
        dense: NDArray[Any] = check_array(features, dtype=(np.float64, np.float32), ensure_all_finite=False)
    except ValueError as error:
        raise ClusteringError(f"the features must be an (N, D) array of real numbers: {error}") from error
    return dense


def unit_rows(features: Any) -> NDArray[np.float32]:
    """Check features and scale each to unit length.

    Norms are taken in double precision, so float32 and float64 inputs of the same values give the same bits, and
    features that are unit vectors already change by no more than rounding. A zero feature has no direction and stays
    zero: its similarity with everything is 0. The input is not touched.

    Args:
        features: (N, D) real numbers, N and D at least 1.

    Returns:
        (N, D) float32, C-contiguous.

    Raises:
        ClusteringError: What `real_rows` refuses, NaN or infinity.
    """
    dense = real_rows(features)
    unit = np.empty(dense.shape, np.float32)
    for start in range(0, len(dense), _ROWS):
        block = dense[start : start + _ROWS].astype(np.float64)
        square = np.einsum("nd,nd->n", block, block)
        extreme = ~((square > 1e-200) & (square < 1e200))
        if extreme.any():  # zero, or squares that overflow or underflow, or not finite
            peak = np.abs(block[extreme]).max(axis=1, keepdims=True)
            if not np.isfinite(peak).all():
                _refuse_not_finite(dense)
            block[extreme] /= np.where(peak > 0, peak, 1)
            square = np.einsum("nd,nd->n", block, block)
        norm = np.sqrt(np.where(square > 0, square, 1))[:, None]
        np.divide(block, norm, out=unit[start : start + _ROWS], casting="same_kind")
    return unit


def _refuse_not_finite(features: NDArray[Any]) -> NoReturn:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    raise ClusteringError(
        f"{len(bad):,} of {len(features):,} features contain NaN or infinity, the first in row {bad[0]}; "
        "drop these rows, or find out why the model returns such features"
    )


def check_neighbourhood(k1: int, k2: int, *, kind: str = "", least: int = 1) -> None:
    """Refuse k1 < 1, k2 below the least and k2 > k1 with a ClusteringError; the kind ends their names."""
    check_count(f"k1{kind}", k1)
    check_count(f"k2{kind}", k2, least=least)
    if k2 > k1:
        raise ClusteringError(
            f"k2{kind}={k2} must not exceed k1{kind}={k1}: query expansion averages the first k2{kind} of the "
            f"k1{kind} neighbours; lower k2{kind}"
        )


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Refuse all but integers of at least 1 (or another least) with a ClusteringError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ClusteringError(f"{name}={value!r} must be an integer of at least {least}")


def check_distance(name: str, value: float, *, zero: bool = False) -> np.float32:
    """Check a bound on Jaccard distances and round it to the precision in which distances are compared.

    Args:
        name: The parameter's name, for the message.
        value: The bound, in (0, 1).
        zero: Whether 0 may be given too.

    Returns:
        The bound in float32.

    Raises:
        ClusteringError: The bound is outside, or so near to 1 that it rounds to 1.
    """
    if not (0 < value < 1 or (zero and value == 0)) or np.float32(value) == 1:
        raise ClusteringError(
            f"{name}={value!r} must lie in {'[' if zero else '('}0, 1): the distance of unrelated images is exactly 1, "
            "and the graph holds related ones only"
        )
    return np.float32(value)
