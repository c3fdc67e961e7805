"""Candidates for the nearest neighbours, from blocked products in float32 or bfloat16.

Each search returns, per query, the `width` points of the largest inner product as its library rounds it, in no order,
and the smallest of these products. `reidkit.clustering.neighbours` ranks them exactly and settles what rounding leaves
open, so the choice of library, precision, tile size and thread count changes the time and never the result.

Where points of the query's own group (camera) do not count, their products are set to -inf, which no search takes;
where there are too few others, a row ends in -1 and its floor is -inf. Of several processes each computes a part of the
products, and `merge` joins the candidates that they found.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.parallel import Resources, kernel
from reidkit.clustering.rounding import Single
from reidkit.errors import ClusteringError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Candidates",
    "empty_candidates",
    "import_faiss",
    "merge",
    "search_device",
    "search_faiss",
    "search_processor",
]

_TILE = 1024
_DEVICE_TILE = (2048, 16384)
_LANE = 128
_PROBES = 32
_CHECKED = 64
_NOTHING = np.float32(-np.inf)


class Candidates(NamedTuple):
    """Candidate neighbours of N queries; while searching, each row is a binary heap with the smallest score first."""

    indices: NDArray[np.int32]  # (N, M), -1 where there is none
    scores: NDArray[Any]  # (N, M) float32, -inf where there is none; while searching on the CPU: keys of scores
    floor: NDArray[Any]  # (N,), the smallest score of each row: nothing outside the row scores higher


class Tile(NamedTuple):
    """Inner products of a run of points with another run."""

    bits: NDArray[Any]  # (rows, columns) float32 read as int32, or bfloat16 read as int16
    row: int  # the first row's point
    column: int  # the first column's point


def empty_candidates(n: int, width: int, lowest: Any = _NOTHING) -> Candidates:
    """No candidates yet: every score is the lowest."""
    return Candidates(np.full((n, width), -1, np.int32), np.full((n, width), lowest), np.full(n, lowest))


def search_processor(
    points: NDArray[np.float32],
    width: int,
    resources: Resources,
    *,
    half: bool = False,
    groups: NDArray[np.int32] | None = None,
) -> Candidates:
    """Search among the points themselves on the CPU: each product is computed once and offered to both of its points.

    Args:
        points: (N, D) unit vectors.
        width: Candidates per point, at most N.
        resources: Each thread of each process computes other tiles of the products.
        half: Multiply in bfloat16 (its sums are float32, rounded at the end), otherwise in float32.
        groups: (N,) points of equal groups are no candidates of each other; None leaves out none.
    """
    import torch

    n = len(points)
    tensor = torch.from_numpy(points)
    integers: Any = torch.int16 if half else torch.int32
    if half:
        tensor = tensor.bfloat16()
    nothing = ordered(tensor.new_full((1,), -np.inf).view(integers).numpy())
    found = empty_candidates(n, width, nothing[0])
    group = None if groups is None else torch.from_numpy(groups)
    locks = [Lock() for _ in range(0, n, _TILE)]
    spare: list[torch.Tensor] = []

    def work(tile: tuple[int, int]) -> None:
        torch.set_num_threads(1)  # of this worker: tiles run side by side
        row, column = tile
        rows, columns = tensor[row : row + _TILE], tensor[column : column + _TILE]
        memory = spare.pop() if spare else tensor.new_empty(min(n, _TILE) ** 2)
        scores = memory[: len(rows) * len(columns)].view(len(rows), len(columns))
        torch.mm(rows, columns.T, out=scores)
        _leave_out(scores, group, row, column)
        products = Tile(scores.view(integers).numpy(), row, column)
        with locks[row // _TILE]:
            offer(found, products, True)
        if column > row:
            with locks[column // _TILE]:
                offer(found, products, False)
        spare.append(memory)

    tiles = [(row, column) for row in range(0, n, _TILE) for column in range(row, n, _TILE)]
    tiles.sort(key=lambda tile: tile[1] - tile[0])  # tiles that follow each other share no points, and no lock
    processes = resources.processes
    threads = torch.get_num_threads()
    try:
        with _full_precision("cpu"):
            deque(resources.pool.map(work, tiles[processes.rank :: processes.size]), maxlen=0)
    finally:
        torch.set_num_threads(threads)
    return Candidates(found.indices, _scores(found.scores), _scores(found.floor))


def _scores(keys: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers that ordered bits stand for."""
    bits = ordered(keys)
    return bits.view(np.float32) if bits.itemsize == 4 else (bits.astype(np.int32) << 16).view(np.float32)


def ordered(bits: NDArray[Any]) -> NDArray[Any]:
    """Integers that are ordered as the floating-point numbers of these bits are; its own inverse.

    The bits of positive numbers are ordered so already, those of negative ones the other way round.
    """
    sign = 8 * bits.itemsize - 1
    keys: NDArray[Any] = bits ^ ((bits >> sign) & np.iinfo(bits.dtype).max)
    return keys


def _leave_out(scores: "torch.Tensor", group: "torch.Tensor | None", row: int, column: int) -> None:
    """Set the products of points of one group to -inf, in a tile that begins at (row, column)."""
    if group is not None:
        height, width = scores.shape
        same = group[row : row + height, None] == group[None, column : column + width]
        scores.masked_fill_(same, -np.inf)


@kernel
def key_of(bits: int, sign: int) -> int:
    """`ordered` for one number, whose sign is bit `sign`. Allocates nothing."""
    return bits ^ ((bits >> sign) & ((1 << sign) - 1))


@kernel
def offer(found: Candidates, tile: Tile, to_rows: bool) -> None:
    """Offer the points of the tile's rows those of its columns, or the other way round.

    found[row + i] <- the M best of found[row + i] and { (key[i, j], column + j) }; for columns, rows are exchanged with
    columns. Allocates two lanes.
    A lane is compared with the floors as a whole first, as nearly all lanes are below them. Slices of a fixed length
    make that a few vector instructions; what is above is gathered without branches, which could not be predicted.
    """
    sign = 8 * tile.bits.itemsize - 1
    above = np.empty(_LANE, np.int32)
    same = np.empty(_LANE, found.floor.dtype)  # the floor of the row's point, for each of its lane
    for i in range(tile.bits.shape[0]):
        row = tile.row + i
        same[:] = found.floor[row]
        for first in range(0, tile.bits.shape[1], _LANE):
            column = tile.column + first
            lane = tile.bits[i, first : first + _LANE]
            floors = same if to_rows else found.floor[column : column + _LANE]
            if lane.size == _LANE:
                hit = np.uint8(0)
                for j in range(_LANE):
                    hit |= np.uint8(key_of(lane[j], sign) > floors[j])
                if not hit:
                    continue
            count = 0
            for j in range(lane.size):
                above[count] = j
                count += key_of(lane[j], sign) > floors[j]
            for j in above[:count]:
                key = key_of(lane[j], sign)
                if not to_rows:
                    replace_smallest(found, column + j, key, row)
                elif key > found.floor[row]:
                    replace_smallest(found, row, key, column + j)
            same[:] = found.floor[row]


@kernel
def replace_smallest(found: Candidates, point: int, score: Any, index: int) -> None:
    """Put (score, index) in place of the smallest entry of the point's heap (M entries). Allocates nothing."""
    scores = found.scores[point]
    indices = found.indices[point]
    hole = 0
    child = 1
    while child < scores.size:
        if child + 1 < scores.size and scores[child + 1] < scores[child]:
            child += 1
        if scores[child] >= score:
            break
        scores[hole] = scores[child]
        indices[hole] = indices[child]
        hole = child
        child = 2 * hole + 1
    scores[hole] = score
    indices[hole] = index
    found.floor[point] = scores[0]


@kernel
def merge(found: Candidates, other: Candidates, start: int, stop: int) -> None:
    """Offer points [start, stop) the candidates (N, M) that another process found. Allocates nothing."""
    for i in range(start, stop):
        for p in range(other.scores.shape[1]):
            if other.scores[i, p] > found.floor[i]:
                replace_smallest(found, i, other.scores[i, p], other.indices[i, p])


def search_device(
    points: NDArray[np.float32],
    width: int,
    resources: Resources,
    *,
    queries: NDArray[np.float32] | None = None,
    groups: NDArray[np.int32] | None = None,
) -> Candidates:
    """Search on a torch device, tile by tile: device memory is the vectors and about 0.5 GiB.

    Args:
        points: (N, D) unit vectors.
        width: Candidates per query, at most N.
        resources: Has the device; processes deal the rows of tiles out, and the others' rows stay empty.
        queries: (Q, D) unit vectors; None: the points themselves.
        groups: (N,) points of equal groups are no candidates of each other; None leaves out none.

    Raises:
        ClusteringError: torch does not know the device or cannot use it, or its memory is too small.
    """
    import torch

    device, processes = resources.device, resources.processes
    try:
        tensor = torch.from_numpy(points).to(device)
        asked = tensor if queries is None else torch.from_numpy(queries).to(device)
        group = None if groups is None else torch.from_numpy(groups).to(device)
        found = empty_candidates(len(asked), width)
        height, breadth = _DEVICE_TILE
        with _full_precision(tensor.device.type):
            for row in range(processes.rank * height, len(asked), processes.size * height):
                best = tensor.new_empty(min(height, len(asked) - row), 0)
                nearest = best.long()
                for column in range(0, len(points), breadth):
                    tile = asked[row : row + height] @ tensor[column : column + breadth].T
                    _leave_out(tile, group, row, column)
                    score, index = tile.topk(min(width, tile.shape[1]))
                    best, nearest = torch.cat([best, score], 1), torch.cat([nearest, index + column], 1)
                    best, order = best.topk(min(width, best.shape[1]))
                    nearest = nearest.gather(1, order)
                nearest.masked_fill_(best == -np.inf, -1)
                found.indices[row : row + height] = nearest.cpu().numpy()
                found.scores[row : row + height] = best.cpu().numpy()
    except (RuntimeError, AssertionError) as error:
        raise ClusteringError(f"device={device!r} cannot be used: {error}; pass device='cpu'") from error
    found.floor[:] = found.scores[:, -1]
    return found


def import_faiss(device: str, *, backend: str = "faiss") -> Any:
    """faiss, if it is installed and can search on a device.

    Raises:
        ClusteringError: It is not, or cannot; the message names the backend that asked for it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ClusteringError(
            f"backend={backend!r} needs faiss, which is not installed; `pip install reidkit[cpu]` (or [gpu]), or pass "
            "backend='torch'"
        ) from error
    kind, _, index = device.partition(":")
    if kind != "cpu" and (kind != "cuda" or int(index or 0) >= faiss.get_num_gpus()):
        raise ClusteringError(
            f"backend={backend!r} searches on the CPU and on {faiss.get_num_gpus()} GPUs here, not on "
            f"device={device!r}; install faiss for GPUs (`pip install reidkit[gpu]`), or pass backend='torch'"
        )
    return faiss


def search_faiss(
    points: NDArray[np.float32],
    width: int,
    resources: Resources,
    *,
    queries: NDArray[np.float32] | None = None,
    approximate: bool = False,
) -> Candidates:
    """Search with faiss, on the CPU or a GPU: an exact flat index, or inverted lists that look at a part of the points.

    Args:
        points: (N, D) unit vectors.
        width: Candidates per query, at most N.
        resources: Has the device; processes share the rows, and the others' rows stay empty.
        queries: (Q, D) unit vectors; None: the points themselves.
        approximate: Group the points into about 4 sqrt(N) lists by k-means and look into the 32 lists that are nearest
            to each query (IVF; Sivic and Zisserman, ICCV 2003). A row may then end in -1.

    Raises:
        ClusteringError: faiss is not installed, cannot search on the device, or multiplies in less than float32.
    """
    faiss = import_faiss(resources.device, backend="approximate" if approximate else "faiss")
    asked = points if queries is None else queries
    n, dimension = points.shape
    index = faiss.IndexFlatIP(dimension)
    if approximate:
        lists = max(1, min(round(4 * n**0.5), n // 39))  # k-means wants 39 points and more for each
        index = faiss.IndexIVFFlat(index, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(lists, _PROBES)
    kind, _, number = resources.device.partition(":")
    if kind == "cuda":
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), int(number or 0), index)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(resources.threads)
    found = empty_candidates(len(asked), width)
    start, stop = resources.processes.rows(len(asked))
    try:
        index.train(points)  # of a flat index: nothing
        index.add(points)
        found.scores[start:stop], found.indices[start:stop] = index.search(asked[start:stop], width)
    except RuntimeError as error:
        raise ClusteringError(f"faiss cannot search on device={resources.device!r}: {error}") from error
    finally:
        faiss.omp_set_num_threads(threads)
    found.scores[found.indices < 0] = -np.inf
    found.floor[:] = found.scores[:, -1]
    for row in np.unique(np.linspace(start, max(start, stop - 1), _CHECKED).astype(np.int64))[: stop - start]:
        held = found.indices[row] >= 0
        true = points[found.indices[row, held]].astype(np.float64) @ asked[row].astype(np.float64)
        if (np.abs(found.scores[row, held] - true) > Single.of(dimension).error).any():
            raise ClusteringError(
                f"faiss multiplies in less than float32 on device={resources.device!r}; pass backend='torch'"
            )
    return found


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """Multiply in true float32: no TF32, no bfloat16, no autocast."""
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
