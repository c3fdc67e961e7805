"""How the room computes: compiled kernels over blocks of rows, on threads.

Kernels release the interpreter's lock, so plain threads run them side by side. The blocks depend on the number of rows
alone and results come back in the order of the rows: one thread and many give the same bits.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numba

from reidkit.clustering.checks import check_count

__all__ = ["kernel", "map_rows", "worker_pool"]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

_BLOCKS = 64


def kernel(function: Function) -> Function:
    """Compile a function with numba, without the interpreter's lock, and cache the machine code on disk.

    Floating-point sums may be reordered (so that they vectorise) and products fused; nothing else of IEEE is given up.
    Where no cache folder can be written (a read-only install and home), the kernel is compiled anew in each process.
    """
    compile_with: Any = partial(numba.njit, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
    try:
        compiled: Function = compile_with(cache=True)(function)
    except RuntimeError:  # numba: "no locator available"
        compiled = compile_with(cache=False)(function)
    return compiled


def worker_pool(threads: int | None) -> ThreadPoolExecutor:
    """Threads to run kernels on.

    Args:
        threads: How many; None takes every core this process may use (numba's count: `NUMBA_NUM_THREADS` lowers it).

    Raises:
        ClusteringError: `threads` is not an integer of at least 1.
    """
    if threads is not None:
        check_count("threads", threads)
    config: Any = numba.config
    return ThreadPoolExecutor(threads or config.NUMBA_NUM_THREADS, thread_name_prefix="reidkit-clustering")


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
