from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reidkit.clustering import JaccardDBSCAN, capacity, jaccard_graph, nearest_neighbours
from reidkit.clustering.capacity import available_memory, clustering_bytes, graph_bytes, search_bytes
from reidkit.distributed import ALONE, ProcessGroup
from reidkit.errors import ClusteringError
from tests.clustering.conftest import Clustered

GIB = 2**30


@pytest.mark.parametrize("method", [jaccard_graph, JaccardDBSCAN().fit_predict, partial(nearest_neighbours, k=30)])
def test_what_the_memory_cannot_hold_is_refused(
    method: Any, monkeypatch: pytest.MonkeyPatch, clustered: Clustered
) -> None:
    features = clustered(500)
    monkeypatch.setattr(capacity, "available_memory", lambda: 10_000)
    message = r"500 features of size 32.*30 neighbours|30 neighbours of 500 features"
    with pytest.raises(ClusteringError, match=message) as refused:
        method(features)
    assert "needs about 2." in str(refused.value)
    assert "MiB available" in str(refused.value)
    assert "fewer images, lower k" in str(refused.value)
    assert "a machine with more memory" in str(refused.value)


def test_nothing_large_is_allocated_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "available_memory", lambda: 1 * GIB)
    million = np.broadcast_to(np.float32(1), (1_000_000, 384))
    with pytest.raises(ClusteringError, match=r"1,000,000 features of size 384.* GiB of memory.*1\.0 GiB available"):
        jaccard_graph(million)


def test_what_fits_is_computed(monkeypatch: pytest.MonkeyPatch, clustered: Clustered) -> None:
    monkeypatch.setattr(capacity, "available_memory", lambda: 100 * GIB)
    assert jaccard_graph(clustered(50)).shape == (50, 50)


def test_estimates_grow_with_what_they_count() -> None:
    base = clustering_bytes(100_000, 384, 30, 6)
    assert clustering_bytes(200_000, 384, 30, 6) == pytest.approx(2 * base, rel=0.3)
    assert clustering_bytes(100_000, 768, 30, 6) > base
    assert clustering_bytes(100_000, 384, 60, 6) > base
    assert clustering_bytes(100_000, 384, 30, 20) > base
    assert search_bytes(100_000, 384, 30, processes=2) > search_bytes(100_000, 384, 30)
    assert base >= search_bytes(100_000, 384, 30) > 4 * 100_000 * 384
    assert clustering_bytes(10, 4, 10**9, 10**9) < 10_000
    assert graph_bytes(1000, 0, 50_000) == 8 * (4 * 50_000 + 1000)
    assert graph_bytes(1000, 100_000, 50_000) == 16 * 50_000


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = [("ant", 10 * GIB, 3 * GIB), ("bee", 5 * GIB, 3 * GIB), ("bee", 4 * GIB, 3 * GIB)]

    def refuse() -> None:
        capacity.refuse_beyond_memory(3 * GIB, what="it", remedy="less", processes=ALONE)

    monkeypatch.setattr(ProcessGroup, "gather_values", lambda self, value: told)
    with pytest.raises(ClusteringError, match=r"it needs about 6.0 GiB of memory for 2 processes, and bee has 4.0 GiB"):
        refuse()
    told[2] = ("cat", 4 * GIB, 3 * GIB)
    refuse()


def test_memory_is_what_can_be_had_without_swapping(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory() > 0
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=12345, total=99999))
    assert available_memory() == 12345
