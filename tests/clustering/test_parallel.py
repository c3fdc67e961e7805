from typing import Any, cast

import numba
import numba.core.caching
import pytest

from reidkit.clustering.parallel import kernel, map_rows, open_resources
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError


def double(value: int) -> int:
    return 2 * value


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    compiled = kernel(double)
    assert compiled(21) == 42
    assert cast(Any, compiled).stats.cache_path is None


def test_kernels_are_cached_where_they_can_be() -> None:
    assert cast(Any, kernel(double)).stats.cache_path is not None


@pytest.mark.parametrize("n", [1, 255, 256, 257, 100_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_cover_all_rows_in_order(n: int, threads: int) -> None:
    with open_resources(threads) as resources:
        blocks = map_rows(resources.pool, lambda start, stop: list(range(start, stop)), n)
    assert [row for block in blocks for row in block] == list(range(n))


@pytest.mark.parametrize(("first", "n"), [(0, 0), (300, 300), (299, 300), (100, 1000)])
def test_blocks_may_begin_later(first: int, n: int) -> None:
    with open_resources(2) as resources:
        blocks = map_rows(resources.pool, lambda start, stop: list(range(start, stop)), n, first=first)
    assert len(blocks) >= 1
    assert [row for block in blocks for row in block] == list(range(first, n))


def test_errors_of_a_block_come_through() -> None:
    def fail(start: int, stop: int) -> None:
        raise ClusteringError(f"rows {start} to {stop}")

    with open_resources(2) as resources, pytest.raises(ClusteringError, match="rows 0 to 10"):
        map_rows(resources.pool, fail, 10)


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_thread_counts_are_positive(threads: Any) -> None:
    with pytest.raises(ClusteringError, match="threads="):
        open_resources(threads).__enter__()


def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three processes one is on another machine."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 9)
    monkeypatch.setattr(ProcessGroup, "gather_values", lambda self, node: [node, "another", node])
    for threads, count in ((None, 4), (5, 5)):
        with open_resources(threads, ProcessGroup(None, 0, 3)) as resources:
            assert resources.threads == count
