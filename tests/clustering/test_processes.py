import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from reidkit.clustering import ClusteringConfig, capacity, create_clusterer, jaccard_graph, nearest_neighbours
from reidkit.clustering import candidates as search
from reidkit.clustering.sparse_rows import Rows
from reidkit.distributed import ALONE, ProcessGroup
from reidkit.errors import ClusteringError

COUNT = 330


def features_and_cameras() -> tuple[Any, Any]:
    """Clustered features with duplicates, of 4 cameras and some unknown."""
    random = np.random.default_rng(3)
    features = random.standard_normal((30, 16))[random.integers(0, 30, COUNT)]
    features += 0.6 * random.standard_normal(features.shape)
    features[:40] = features[40]
    return features.astype(np.float32), random.integers(-1, 4, COUNT)


def compute(group: Any) -> dict[str, Any]:
    features, cameras = features_and_cameras()
    results = {
        "neighbours": nearest_neighbours(features, 20, threads=1, group=group),
        "queries": nearest_neighbours(features, 20, queries=features[:70], threads=1, group=group),
        "by device": nearest_neighbours(features, 20, device="cpu:0", threads=1, group=group),
        "one": nearest_neighbours(features[:1], 20, threads=1, group=group),
    }
    graphs = {
        "plain": jaccard_graph(features, threads=1, group=group),
        "no expansion": jaccard_graph(features, k2=1, max_distance=0.9, threads=1, group=group),
        "cameras": jaccard_graph(features, cameras=cameras, threads=1, group=group),
        "two": jaccard_graph(features[:2], threads=1, group=group),
        "given": jaccard_graph(features, k1=20, neighbours=results["neighbours"], threads=1, group=group),
    }
    for name, graph in graphs.items():
        for part in ("indptr", "indices", "data"):
            results[f"{name} {part}"] = getattr(graph, part)
    for method in ("dbscan", "hdbscan"):
        config = ClusteringConfig(method=method, threads=1)
        results[method] = create_clusterer(config, group=group).fit_predict(features)
    return results


def work(rank: int, size: int, folder: str) -> None:
    """Compute everything in one process of the group, and note which errors it gets."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    search._TILE = 64  # so that all processes get tiles
    group = dist.group.WORLD
    results = compute(group)
    features, cameras = features_and_cameras()
    errors = []
    differing: list[dict[str, Any]] = [
        {"X": features + (rank == 1)},
        {"X": features, "k1": 20 + rank},
        {"X": features, "cameras": cameras if rank else None},
    ]
    for options in differing:
        try:
            jaccard_graph(**options, threads=1, group=group)
        except ClusteringError as error:
            errors.append(str(error))
    capacity.available_memory = lambda: 10_000 if rank == 0 else 2**40
    try:
        jaccard_graph(features, threads=1, group=group)
    except ClusteringError as error:
        errors.append(str(error))
    np.savez(f"{folder}/{rank}.npz", errors=np.array(errors), **results)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_many_processes_do_as_one(size: int, tmp_path: Path) -> None:
    spawn(work, (size, str(tmp_path)), nprocs=size)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    expected = compute(None)
    for rank in range(size):
        with np.load(tmp_path / f"{rank}.npz") as results:
            for name, array in expected.items():
                np.testing.assert_array_equal(results[name], array, err_msg=f"{name} of process {rank}")
                assert results[name].dtype == array.dtype
            errors = results["errors"].tolist()
        assert len(errors) == 4
        assert all(f"process {rank} of {size} was given other features or parameters" in error for error in errors[:3])
        assert f"of memory for {size} processes, and {socket.gethostname()} has" in errors[3]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Any]:
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_a_group_of_one_does_as_none(group: Any) -> None:
    expected = compute(None)
    for name, array in compute(group).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_arrays_travel(group: Any) -> None:
    processes = ProcessGroup.of(group)
    assert processes == ProcessGroup(group, 0, 1)
    assert processes.gather_values("a") == ["a"]
    rows = Rows(np.array([0, 2]), np.array([4, 7], np.int32), np.empty(0, np.float32))
    (received,) = processes.arrays_of_each(rows)
    assert isinstance(received, Rows)
    for array, sent in zip(received, rows, strict=True):
        np.testing.assert_array_equal(array, sent)
    assert processes.all_reduce(np.array([3, -1], np.int32), "max").tolist() == [3, -1]
    processes.check_same(np.eye(3), 1, None)


def test_what_differs_is_refused(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = [((2, 2), 123), 30]
    monkeypatch.setattr(ProcessGroup, "gather_values", lambda self, value: [theirs, value, theirs])
    with pytest.raises(ClusteringError, match=r"process 1 of 3 was given other features or parameters than \[0, 2\]"):
        ProcessGroup(group, 1, 3).check_same(np.eye(2), 30)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (2, 5), (0, 2), (7, 1)])
def test_shares_cover_all_rows_in_order(n: int, size: int) -> None:
    shares = [ProcessGroup(None, rank, size).rows(n) for rank in range(size)]
    assert [row for first, stop in shares for row in range(first, stop)] == list(range(n))
    assert max(stop - first for first, stop in shares) - min(stop - first for first, stop in shares) <= 1


def test_alone_nothing_travels() -> None:
    assert ProcessGroup.of(None) is ALONE
    array = np.array([1, 2], np.int32)
    assert ALONE.gather_values(5) == [5]
    assert ALONE.all_reduce(array) is array
    ALONE.check_same(array, 3)


def test_a_group_must_exist() -> None:
    with pytest.raises(ClusteringError, match="init_process_group"):
        ProcessGroup.of(object())


def test_only_members_may_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda group: -1)
    with pytest.raises(ClusteringError, match="not in the group"):
        ProcessGroup.of(object())
