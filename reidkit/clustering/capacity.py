"""Memory that a clustering will need at its peak, and whether the machine has it.

The system grants memory that it does not have and kills the process that uses it, hours into a run. So the need is
estimated and refused before the first large array: first from the number of features, with row sizes as re-ID features
have them, then, before the graph, from a sample of its rows (features that have all become alike make nearly all pairs
near, which N and D do not show).
"""

import os
import platform

import psutil

from reidkit.clustering.rounding import Half
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError

__all__ = ["available_memory", "clustering_bytes", "graph_bytes", "refuse_beyond_memory", "search_bytes"]

_TILE_BYTES = 4 * 1024**2
_SETTLE_BYTES = 5 * 2**24
_ENTRY = 8  # bytes of one index and one weight


def available_memory() -> int:
    """Bytes of main memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def search_bytes(n: int, dimension: int, k: int, *, queries: int | None = None, processes: int = 1) -> int:
    """Peak of the neighbour search: unit vectors (also in half precision), candidates, neighbours, and tiles per core.

    K neighbours of Q queries (None: of the features themselves) are sought among N features of size D. Two or more
    processes that share the search hold candidates to send, received and merged.
    """
    asked = n if queries is None else queries
    candidates = 1.5 * _ENTRY * asked * min(k + Half.margin, n) * (1 if processes == 1 else 3)
    workers = min(os.cpu_count() or 1, 1 + 4 * n * n // _TILE_BYTES)
    tiles = workers * min(4 * n * n, _TILE_BYTES) + min(5 * n * n, _SETTLE_BYTES)
    vectors = 6 * n * dimension + (0 if queries is None else 4 * queries * dimension)
    return int(vectors + candidates + 4 * asked * min(k, n) + tiles)


def clustering_bytes(n: int, dimension: int, k1: int, k2: int, *, processes: int = 1) -> int:
    """Peak of neighbours and graph of N features of size D together, before the rows are known.

    A reciprocal set is expanded to 1.2 K1 members, averaging K2 of them gives 1 + 0.6 (K2 - 1) times as many, and K1
    pairs per point are near enough: the upper end of what clustered features showed, from tight to loose ones.
    """
    k1 = min(k1, n)
    members = min(1.2 * k1, n)
    averaged = min(members * (1 + 0.6 * (k2 - 1)), n)
    encode = 8 * n * k1 + _ENTRY * n * (members + 2 * averaged)
    near = 4 * n * k1 + _ENTRY * n * max(2 * averaged + 2 * k1, 4 * k1 + 1)
    return max(search_bytes(n, dimension, k1, processes=processes), int(4 * n * dimension + max(encode, near)))


def graph_bytes(n: int, entries: int, pairs: int) -> int:
    """Memory of the graph of N features beyond the weights and their columns.

    These have `entries` that are not zero and are freed before the triangles are joined; near `pairs` count once each.
    """
    return max(2 * _ENTRY * pairs, _ENTRY * (4 * pairs + n) - 2 * _ENTRY * entries)


def refuse_beyond_memory(need: int, *, what: str, remedy: str, processes: ProcessGroup) -> None:
    """Refuse what the memory cannot hold, in every process of the group if it is too much for one machine of it.

    Args:
        need: Bytes that each process is about to allocate.
        what: Computation that needs them, for the message.
        remedy: Advice to the user, for the message.
        processes: Processes that will all allocate as much.

    Raises:
        ClusteringError: A machine has less memory available than its processes need.
    """
    machines: dict[str, list[tuple[int, int]]] = {}
    for machine, available, wanted in processes.gather_values((platform.node(), available_memory(), need)):
        machines.setdefault(machine, []).append((available, wanted))
    for machine, given in machines.items():
        available, wanted = min(given)[0], sum(wanted for _, wanted in given)
        if wanted > available:
            where = f" for {len(given)} processes" if len(given) > 1 else ""
            raise ClusteringError(
                f"{what} needs about {_size(wanted)} of memory{where}, and {machine or 'this machine'} has "
                f"{_size(available)} available; {remedy}, or use a machine with more memory"
            )


def _size(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
