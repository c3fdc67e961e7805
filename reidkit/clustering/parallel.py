"""Compiled kernels over blocks of rows, on threads, and what a computation may use.

Kernels release the interpreter's lock, so plain threads run them side by side. The blocks depend on the number of rows
alone and results come back in the order of the rows: one thread and many give the same bits.
"""

import platform
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numba

from reidkit.clustering.checks import check_count
from reidkit.distributed import ALONE, ProcessGroup

__all__ = ["Resources", "kernel", "map_rows", "open_resources"]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

_BLOCKS = 64


class Resources(NamedTuple):
    """Threads and processes that share a computation, and the library and device that search neighbours."""

    pool: Executor
    threads: int = 1
    processes: ProcessGroup = ALONE
    backend: str = "auto"
    device: str = "cpu"


def kernel(function: Function) -> Function:
    """Compile a function with numba, without the interpreter's lock, and cache the machine code on disk.

    Floating-point sums may be reordered (so that they vectorise) and products fused; nothing else of IEEE is given up.
    Where no cache folder can be written (a read-only install and home), each process compiles the kernel.
    """
    compile_with: Any = partial(numba.njit, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
    try:
        compiled: Function = compile_with(cache=True)(function)
    except RuntimeError:  # numba: "no locator available"
        compiled = compile_with(cache=False)(function)
    return compiled


@contextmanager
def open_resources(
    threads: int | None, processes: ProcessGroup = ALONE, *, backend: str = "auto", device: str = "cpu"
) -> Iterator[Resources]:
    """Start the threads of a computation; those of the processes of one machine share its cores.

    Args:
        threads: Threads of each process; None: the cores of the machine (numba's count: `NUMBA_NUM_THREADS` lowers
            it), divided by its processes.
        processes: Processes that share the computation; all of them must call.
        backend: See `nearest_neighbours`.
        device: See `nearest_neighbours`.

    Raises:
        ClusteringError: `threads` is not an integer of at least 1.
    """
    if threads is None:
        cores, here = int(cast(Any, numba.config).NUMBA_NUM_THREADS), platform.node()
        threads = max(1, cores // processes.gather_values(here).count(here))
    check_count("threads", threads)
    with ThreadPoolExecutor(threads, thread_name_prefix="reidkit-clustering") as pool:
        yield Resources(pool, threads, processes, backend, device)


def map_rows(
    pool: Executor, function: Callable[[int, int], Result], n: int, *, first: int = 0, smallest: int = 256
) -> list[Result]:
    """Call `function(start, stop)` for every block of rows on the pool; return the results in the order of rows.

    Args:
        pool: Where to call it.
        function: Works on rows [start, stop).
        n: The row after the last.
        first: The first row; where it is n there is one block, of no rows.
        smallest: Rows that are worth a block.
    """
    size = max(smallest, -(-(n - first) // _BLOCKS))
    starts = range(first, max(n, first + 1), size)
    return list(pool.map(function, starts, (min(start + size, n) for start in starts)))
