"""Sparse rows: the one container that the kernels of this room pass on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "stack"]


class Rows(NamedTuple):
    """A run of sparse rows (CSR): row i holds entries indptr[i] to indptr[i + 1]; there may be room after the last."""

    indptr: NDArray[np.int64]  # (rows + 1,)
    indices: NDArray[np.int32]  # (entries,)
    weights: NDArray[np.float32]  # (entries,)


def stack(blocks: list[Rows]) -> Rows:
    """Put runs of rows below each other."""
    offsets = np.cumsum([0] + [block.indptr[-1] for block in blocks])
    starts = [block.indptr[:-1] + offset for block, offset in zip(blocks, offsets, strict=False)]
    return Rows(
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate([block.indices[: block.indptr[-1]] for block in blocks]),
        np.concatenate([block.weights[: block.indptr[-1]] for block in blocks]),
    )
