"""Choice of the library that proposes the nearest neighbours: the fastest one on this machine, by a short trial.

Every library's candidates are ranked and completed by the same arithmetic (`reidkit.clustering.neighbours`), so the
choice changes the time and never the result.
"""

import logging
import time
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.candidates import (
    Candidates,
    import_faiss,
    search_device,
    search_faiss,
    search_processor,
)
from reidkit.clustering.parallel import Resources
from reidkit.clustering.rounding import Half, Single, try_half
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError

__all__ = ["SearchTask", "check_backend", "choose_library", "propose"]

logger = logging.getLogger(__name__)

_FAISS = ("faiss", "approximate")
_FEWEST = 4096**2  # pairs; fewer are searched sooner than a trial takes
_POINTS = 16_384  # of the trial
_PRODUCTS = 4096**2 * 384  # multiplications of the trial on a CPU, about a tenth of a second on a core
_WARM_UP = 2048
_fastest: dict[tuple[str, bool, bool, int], tuple[str, str]] = {}
"""Library and reason that a trial found, by device, whether in bfloat16, whether of queries, and magnitude of D."""


class SearchTask(NamedTuple):
    """Search of the K nearest of N points for each of Q queries."""

    points: NDArray[np.float32]
    """(N, D) unit vectors."""
    k: int
    """Neighbours K of each query, at most N."""
    queries: NDArray[np.float32] | None = None
    """(Q, D) unit vectors; None: the points themselves, each its own first neighbour."""
    groups: NDArray[np.int32] | None = None
    """(N,) a point's neighbours, but for itself, are of other groups than the point; None: of all."""

    @property
    def asked(self) -> NDArray[np.float32]:
        """(Q, D) the queries."""
        return self.points if self.queries is None else self.queries

    def sample(self, size: int) -> "SearchTask":
        """A search of the same kind among `size` points at most, for as many queries; groups are left out."""
        points, asked = (np.ascontiguousarray(rows[:: -(-len(rows) // size)]) for rows in (self.points, self.asked))
        return SearchTask(points, min(self.k, len(points)), None if self.queries is None else asked)


def check_backend(resources: Resources, groups: NDArray[np.int32] | None) -> None:
    """Refuse a backend that does not exist, or cannot do what is asked for, with a ClusteringError."""
    backend = resources.backend
    if backend not in ("auto", "torch", *_FAISS):
        raise ClusteringError(f"backend={backend!r} is unknown; choose 'auto', 'torch', 'faiss' or 'approximate'")
    if backend in _FAISS and groups is not None:
        raise ClusteringError(f"backend={backend!r} cannot search among other cameras only; pass backend='torch'")
    if backend in _FAISS:
        import_faiss(resources.device, backend=backend)


def choose_library(task: SearchTask, resources: Resources, *, log: bool = True) -> tuple[str, Single | Half]:
    """Choose the library and the precision of its products; the main process chooses for all.

    Args:
        task: The search.
        resources: Has the backend that was asked for, and the device.
        log: Whether to log the library and the reason for it.

    Returns:
        "torch", "faiss" or "approximate", and the bounds of the rounding.
    """
    backend, device, processes = resources.backend, resources.device, resources.processes
    half, chosen = None, ("", False)
    if processes.is_main:
        if device == "cpu" and task.queries is None and backend not in _FAISS:
            half = try_half(task.points, task.k, task.groups)
        library, reason = (backend, "as asked") if backend != "auto" else _fastest_library(task, resources, half)
        half = half if library == "torch" else None
        chosen = library, half is not None
        if log:
            precision = "float32" if half is None else "bfloat16"
            logger.info("neighbours: %s on %s in %s (%s)", _version(library), device, precision, reason)
    library, halved = processes.broadcast(chosen)
    if halved:
        return library, half or Half.of(task.points)
    return library, Single.of(task.points.shape[1])


def propose(task: SearchTask, width: int, library: str, resources: Resources, *, half: bool = False) -> Candidates:
    """Candidates (Q, width) of a search by a library, this process's part of them."""
    points, _, queries, groups = task
    if library in _FAISS:
        return search_faiss(points, width, resources, queries=queries, approximate=library == "approximate")
    if resources.device == "cpu" and queries is None:
        return search_processor(points, width, resources, half=half, groups=groups)
    return search_device(points, width, resources, queries=queries, groups=groups)


def _fastest_library(task: SearchTask, resources: Resources, half: Half | None) -> tuple[str, str]:
    """The fastest exact library, torch or faiss, and how that is known."""
    if task.groups is not None:
        return "torch", "the only one that searches by camera"
    if len(task.points) * len(task.asked) < _FEWEST:
        return "torch", "too few images for a trial"
    try:
        import_faiss(resources.device)
    except ClusteringError:
        return "torch", "no faiss for this device is installed"
    key = (resources.device, half is not None, task.queries is None, task.points.shape[1].bit_length())
    if key not in _fastest:
        _fastest[key] = _try_libraries(task.sample(_POINTS), resources, half)
    return _fastest[key]


def _try_libraries(task: SearchTask, resources: Resources, half: Half | None) -> tuple[str, str]:
    """Time both libraries on their part of a small search."""
    count = len(task.asked) * task.points.size
    parts = max(1, count // _PRODUCTS) if resources.device == "cpu" else 1
    resources = resources._replace(processes=ProcessGroup(None, 0, parts))

    def run(library: str, rounding: Half | Single) -> Callable[[SearchTask], Candidates]:
        half = isinstance(rounding, Half)
        return lambda task: propose(
            task, min(task.k + rounding.margin, len(task.points)), library, resources, half=half
        )

    single = Single.of(task.points.shape[1])
    torch_seconds = _seconds(run("torch", half or single), task)
    try:
        faiss_seconds = _seconds(run("faiss", single), task)
    except ClusteringError as error:
        return "torch", f"faiss failed: {error}"
    ratio = faiss_seconds / torch_seconds
    if ratio >= 1:
        return "torch", f"{_version('faiss')} took {ratio:.1f} times as long on a sample"
    return "faiss", f"{_version('torch')} took {1 / ratio:.1f} times as long on a sample"


def _seconds(search: Callable[[SearchTask], Candidates], task: SearchTask) -> float:
    """Seconds of the faster of two searches, after one of a few points that compiles and loads what they need."""
    search(task.sample(_WARM_UP))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        search(task)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _version(library: str) -> str:
    """Name and version of a library, for the log."""
    name = "torch" if library == "torch" else "faiss"
    return f"{name} {import_module(name).__version__}" + (", inverted lists," if library == "approximate" else "")
