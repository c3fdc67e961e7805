"""Bounds on the rounding of inner products of unit vectors, and so on the neighbours that a search can have missed."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from reidkit.cpu import cpu_has_bf16

__all__ = ["Half", "Single", "try_half"]

_BLOCK = 4096
_SAMPLE = 64


@dataclass(frozen=True)
class Single:
    """Products and sums in float32."""

    error: float
    """Largest distance of a rounded inner product from the true one, in any order of the sum."""

    margin: ClassVar[int] = 16
    """Candidates to keep beyond the neighbours asked for, so that few rows must be searched again."""

    @classmethod
    def of(cls, dimension: int) -> Self:
        """The bounds for unit vectors of a size."""
        return cls((dimension + 2) / 2**24)

    def ceiling(self, floor: NDArray[np.float32]) -> NDArray[np.float64]:
        """Greatest true similarity (N,) of a point whose rounded one is at most the floor (N,); -inf of -inf."""
        return floor.astype(np.float64) + self.error


@dataclass(frozen=True)
class Half:
    """Points rounded to bfloat16, products and sums in float32, and the result rounded to bfloat16.

    By the inequality of Cauchy and Schwarz a product of two rounded vectors is off by no more than what both have lost.
    """

    error: NDArray[np.float64]
    """(N,) largest distance of a sum, before it is rounded, from the true inner product of the point with another."""

    margin: ClassVar[int] = 20

    @classmethod
    def of(cls, points: NDArray[np.float32]) -> Self:
        """The bounds for unit vectors (N, D)."""
        import torch

        blocks = (torch.from_numpy(points[start : start + _BLOCK]) for start in range(0, len(points), _BLOCK))
        lost = (
            torch.cat([torch.linalg.vector_norm(block - block.bfloat16(), dim=1) for block in blocks]).double().numpy()
        )
        return cls(1.01 * (lost + lost.max()) + 1.02 * Single.of(points.shape[1]).error)

    def ceiling(self, floor: NDArray[np.float32], rows: Any = slice(None)) -> NDArray[np.float64]:
        """See `Single`; the floor may be that of some rows only."""
        ceiling: NDArray[np.float64] = floor + self.error[rows] + np.abs(np.maximum(floor, -2)) / 2.0**8
        return ceiling


def try_half(points: NDArray[np.float32], k: int, groups: NDArray[np.int32] | None) -> Half | None:
    """Bounds of bfloat16 products if they are the fastest way to the k nearest neighbours, tried on a sample of points.

    They are where the processor multiplies bfloat16 and similarities differ enough to separate most neighbours from the
    rest. (Those of a collapsed network do not.) That products keep within the bounds is seen on the same sample.

    Args:
        points: (N, D) unit vectors.
        k: Neighbours per point.
        groups: (N,) points of equal groups are no neighbours; None: all are.
    """
    n = len(points)
    if n < _BLOCK or k + Half.margin >= n or not cpu_has_bf16():
        return None
    import torch

    mkldnn: Any = torch.backends.mkldnn  # elsewhere products in bfloat16 are slower than those in float32
    if not mkldnn.is_available():
        return None
    rounding, tensor = Half.of(points), torch.from_numpy(points)
    sample = np.linspace(0, n - 1, _SAMPLE).astype(np.int64)
    exact = (tensor[sample] @ tensor.T).numpy()
    rounded = (tensor[sample].bfloat16() @ tensor.bfloat16().T).float().numpy()
    if (np.abs(rounded - exact) > rounding.error[sample, None] + np.abs(exact) / 2**7).any():
        return None
    if groups is not None:
        exact[groups[sample, None] == groups] = -np.inf
    places = (n - k - Half.margin, n - k)
    floor, last = np.partition(exact, places, axis=1)[:, places].T
    uncertain = last <= rounding.ceiling(floor, sample)
    return rounding if uncertain.mean() <= 0.25 else None
