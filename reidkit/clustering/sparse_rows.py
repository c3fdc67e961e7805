"""Sparse rows: the container that the kernels of this package share, and its operations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from reidkit.clustering.parallel import Resources, kernel, map_rows
from reidkit.errors import ClusteringError

__all__ = ["Rows", "all_rows", "empty_rows", "graph_rows", "join", "reserve", "stack", "transpose"]


class Rows(NamedTuple):
    """A run of sparse rows (CSR): row i holds entries indptr[i] to indptr[i + 1]; the arrays may be longer."""

    indptr: NDArray[np.int64]  # (rows + 1,)
    indices: NDArray[np.int32]  # (entries,)
    weights: NDArray[np.float32]  # (entries,)


def graph_rows(graph: Any, points: int | None = None, *, largest: float = np.inf) -> Rows:
    """Check a graph of distances of a caller, and split it into its arrays.

    Args:
        graph: (N, N) sparse distances; explicit zeros are distances of zero.
        points: N, where it is known.
        largest: Largest distance that may be stored.

    Returns:
        Its rows, the same memory where the types fit.

    Raises:
        ClusteringError: Not a square sparse matrix (of N points), or a distance that is negative, NaN or too large.
    """
    is_sparse, shape = issparse(graph), np.shape(graph)
    if not is_sparse or len(shape) != 2 or shape != (shape[0] if points is None else points,) * 2:
        raise ClusteringError(
            f"{type(graph).__name__} of shape {shape} is no square sparse matrix of the distances of "
            f"{'the' if points is None else f'{points:,}'} images; build one with jaccard_graph"
        )
    sparse: csr_array[Any, tuple[int, int]] = csr_array(graph)
    if not ((sparse.data >= 0) & (sparse.data <= largest)).all():
        bounds = "negative distances" if largest == np.inf else f"distances outside [0, {largest:g}]"
        raise ClusteringError(f"the graph holds {bounds} or NaN; build it with jaccard_graph")
    return Rows(
        sparse.indptr.astype(np.int64, copy=False),
        sparse.indices.astype(np.int32, copy=False),
        sparse.data.astype(np.float32, copy=False),
    )


def stack(blocks: list[Rows]) -> Rows:
    """Put runs of rows below each other."""
    offsets = np.cumsum([0] + [block.indptr[-1] for block in blocks])
    starts = [block.indptr[:-1] + offset for block, offset in zip(blocks, offsets, strict=False)]
    return Rows(
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate([block.indices[: block.indptr[-1]] for block in blocks]),
        np.concatenate([block.weights[: block.indptr[-1]] for block in blocks]),
    )


def all_rows(compute: Callable[[int, int], Rows], n: int, resources: Resources) -> Rows:
    """Compute rows 0 to N in blocks, each process its share, and give all of them to every process.

    Args:
        compute: Computes rows [start, stop).
        n: Number of rows, N.
        resources: Threads for the blocks, and the processes.
    """
    processes = resources.processes
    first, stop = processes.rows(n)
    rows = stack(map_rows(resources.pool, compute, stop, first=first))
    return rows if processes.size == 1 else stack(list(processes.arrays_of_each(rows)))


@kernel
def empty_rows(count: int) -> Rows:
    """Rows without entries. Allocates their pointers."""
    return Rows(np.zeros(count + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


@kernel
def reserve(rows: Rows, used: int, more: int) -> Rows:
    """Rows with space for `more` entries after the first `used`. Allocates twice the need when it has to."""
    if used + more <= rows.indices.size:
        return rows
    indices = np.empty(2 * (used + more), np.int32)
    weights = np.empty(2 * (used + more), np.float32)
    for p in range(used):
        indices[p] = rows.indices[p]
        weights[p] = rows.weights[p]
    return Rows(rows.indptr, indices, weights)


def transpose(rows: Rows) -> Rows:
    """The columns of a square matrix of sparse rows, each sorted by row."""
    n, used = len(rows.indptr) - 1, rows.indptr[-1]
    columns = csr_array((rows.weights[:used], rows.indices[:used], rows.indptr), shape=(n, n)).tocsc()
    return Rows(columns.indptr.astype(np.int64), columns.indices.astype(np.int32, copy=False), columns.data)


@kernel
def join(lower: Rows, upper: Rows) -> Rows:
    """Put the two triangles of a symmetric matrix together with its diagonal of zeros. Allocates the result."""
    n = lower.indptr.size - 1
    size = lower.indptr[n] + n + upper.indptr[n]
    full = Rows(np.zeros(n + 1, np.int64), np.empty(size, np.int32), np.zeros(size, np.float32))
    used = 0
    for i in range(n):
        for p in range(lower.indptr[i], lower.indptr[i + 1]):
            full.indices[used] = lower.indices[p]
            full.weights[used] = lower.weights[p]
            used += 1
        full.indices[used] = i
        used += 1
        for p in range(upper.indptr[i], upper.indptr[i + 1]):
            full.indices[used] = upper.indices[p]
            full.weights[used] = upper.weights[p]
            used += 1
        full.indptr[i + 1] = used
    return full
