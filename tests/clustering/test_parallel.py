from typing import Any, cast

import numba.core.caching
import pytest

from reidkit.clustering.parallel import kernel, map_rows, worker_pool
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
    with worker_pool(threads) as pool:
        blocks = map_rows(pool, lambda start, stop: list(range(start, stop)), n)
    assert [row for block in blocks for row in block] == list(range(n))


@pytest.mark.parametrize(("first", "n"), [(0, 0), (300, 300), (299, 300), (100, 1000)])
def test_blocks_may_begin_later(first: int, n: int) -> None:
    with worker_pool(2) as pool:
        blocks = map_rows(pool, lambda start, stop: list(range(start, stop)), n, first=first)
    assert len(blocks) >= 1
    assert [row for block in blocks for row in block] == list(range(first, n))


def test_errors_of_a_block_come_through() -> None:
    def fail(start: int, stop: int) -> None:
        raise ClusteringError(f"rows {start} to {stop}")

    with worker_pool(2) as pool, pytest.raises(ClusteringError, match="rows 0 to 10"):
        map_rows(pool, fail, 10)


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_thread_counts_are_positive(threads: Any) -> None:
    with pytest.raises(ClusteringError, match="threads="):
        worker_pool(threads)
