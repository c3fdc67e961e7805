import sys
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reidkit.clustering import candidates as search
from reidkit.clustering.candidates import (
    Candidates,
    Tile,
    empty_candidates,
    key_of,
    merge,
    offer,
    ordered,
    replace_smallest,
    search_device,
    search_processor,
)
from reidkit.clustering.parallel import Resources
from reidkit.distributed import ProcessGroup
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered, FlatIndex, fake_faiss

WIDTH = 9


@pytest.fixture
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_TILE", 64)
    monkeypatch.setattr(search, "_DEVICE_TILE", (64, 100))


def check(found: Candidates, points: NDArray[np.float32], width: int, *, error: float = 1e-6) -> None:
    products = points.astype(np.float64) @ points.T.astype(np.float64)
    best = np.sort(products, axis=1)[:, ::-1][:, :width]
    chosen = np.sort(np.take_along_axis(products, found.indices.astype(np.int64), axis=1), axis=1)[:, ::-1]
    assert all(len(set(row)) == width for row in found.indices.tolist())
    np.testing.assert_allclose(chosen, best, atol=error)
    np.testing.assert_allclose(found.floor, best[:, -1], atol=error)
    assert found.floor.dtype == found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.floor, found.scores.min(1))


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("n", [9, 63, 64, 65, 300])
@pytest.mark.parametrize("where", ["processor", "device"])
def test_the_best_are_found(n: int, where: str, clustered: Clustered, resources: Resources) -> None:
    points = naive.unit_vectors(clustered(n))
    found = (
        search_processor(points, WIDTH, resources) if where == "processor" else search_device(points, WIDTH, resources)
    )
    check(found, points, WIDTH)


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("n", [9, 64, 65, 300])
def test_bfloat16_finds_the_best_to_its_precision(n: int, clustered: Clustered, resources: Resources) -> None:
    points = naive.unit_vectors(clustered(n))
    found = search_processor(points, WIDTH, resources, half=True)
    check(found, points, WIDTH, error=0.01)
    rounded = torch.from_numpy(found.scores).bfloat16().float().numpy()
    np.testing.assert_array_equal(rounded, found.scores)


@pytest.mark.parametrize(("real", "integer"), [(torch.float32, torch.int32), (torch.bfloat16, torch.int16)])
def test_ordered_bits_are_ordered_as_their_numbers(real: torch.dtype, integer: torch.dtype) -> None:
    numbers = torch.tensor([-np.inf, -1e9, -1.5, -1, -1e-9, 0, 1e-9, 0.25, 1, 1.5, np.inf], dtype=real)
    bits = numbers.view(integer).numpy()
    keys = ordered(bits)
    assert (np.diff(keys.astype(np.int64)) > 0).all()
    np.testing.assert_array_equal(ordered(keys), bits)
    for run in (key_of, cast(Any, key_of).py_func):
        assert [run(int(value), 8 * bits.itemsize - 1) for value in bits] == keys.tolist()


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("n", [9, 65, 300])
@pytest.mark.parametrize("where", ["processor", "device"])
def test_points_of_the_same_group_are_left_out(n: int, where: str, clustered: Clustered, resources: Resources) -> None:
    points = naive.unit_vectors(clustered(n))
    groups = np.random.default_rng(0).choice(3, n, p=[0.9, 0.07, 0.03]).astype(np.int32)
    if where == "processor":
        found = search_processor(points, WIDTH, resources, groups=groups)
    else:
        found = search_device(points, WIDTH, resources, groups=groups)
    products = points.astype(np.float64) @ points.T.astype(np.float64)
    for i in range(n):
        others = np.flatnonzero(groups != groups[i])
        chosen = found.indices[i][found.indices[i] >= 0]
        assert len(chosen) == len(set(chosen.tolist())) == min(WIDTH, len(others))
        assert (groups[chosen] != groups[i]).all()
        best = np.sort(products[i, others])[::-1][:WIDTH]
        np.testing.assert_allclose(np.sort(products[i, chosen])[::-1], best, atol=1e-6)
        assert found.floor[i] == found.scores[i].min()
        assert np.isneginf(found.floor[i]) == (len(others) < WIDTH)


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("where", ["processor", "device", "faiss"])
def test_what_processes_find_is_merged(
    where: str, compiled: bool, monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    fake_faiss(monkeypatch)
    points = naive.unit_vectors(clustered(300))
    merged = empty_candidates(300, WIDTH)
    find: Any = {"processor": search_processor, "device": search_device, "faiss": search.search_faiss}[where]
    for rank in range(3):
        part = find(points, WIDTH, resources._replace(processes=ProcessGroup(None, rank, 3)))
        (merge if compiled else cast(Any, merge).py_func)(merged, part, 0, 300)
    check(merged, points, WIDTH)
    assert (part.floor < merged.floor).any()  # no process has found all


def test_one_tile_may_hold_all(clustered: Clustered, resources: Resources) -> None:
    points = naive.unit_vectors(clustered(300))
    check(search_processor(points, 300, resources), points, 300)
    check(search_device(points, 300, resources), points, 300)


@pytest.mark.gpu
def test_a_gpu_finds_the_best(clustered: Clustered, resources: Resources) -> None:
    points = naive.unit_vectors(clustered(5000))
    check(search_device(points, WIDTH, resources._replace(device="cuda")), points, WIDTH)


@pytest.mark.parametrize("length", [3, 127, 128, 300])
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_offers_keep_the_largest(compiled: bool, rows: bool, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).standard_normal((40, length) if rows else (30, length)).astype(np.float32)
    found = empty_candidates(400, 4, ordered(np.full(1, -np.inf, np.float32).view(np.int32))[0])
    if not compiled:
        for name in ("key_of", "replace_smallest"):
            monkeypatch.setattr(search, name, getattr(search, name).py_func)
    run = offer if compiled else cast(Any, offer).py_func
    run(found, Tile(scores.view(np.int32), 50, 7), rows)
    lines, start, other = (scores, 50, 7) if rows else (scores.T, 7, 50)
    untouched = np.ones(400, bool)
    untouched[start : start + len(lines)] = False
    assert (found.indices[untouched] == -1).all()
    for i, line in enumerate(lines, start=start):
        best = np.argsort(-line)[:4]
        assert set(found.indices[i].tolist()) - {-1} == set((best + other).tolist())
        assert found.floor[i] == found.scores[i].min()
        if len(line) >= 4:
            assert ordered(found.floor).view(np.float32)[i] == line[best].min()


@pytest.mark.parametrize("compiled", [True, False])
def test_replacing_the_smallest_keeps_the_heap(compiled: bool) -> None:
    run = replace_smallest if compiled else cast(Any, replace_smallest).py_func
    found = empty_candidates(2, 7)
    scores = np.random.default_rng(0).permutation(7).astype(np.float32)
    for index, score in enumerate(scores):
        run(found, 1, score, index)
    heap = found.scores[1]
    assert all(heap[(child - 1) // 2] < heap[child] for child in range(1, 7))
    np.testing.assert_array_equal(scores[found.indices[1]], heap)
    assert found.floor.tolist() == [-np.inf, 0]


def test_precision_is_full_while_searching_and_restored(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    seen = []
    multiply = torch.mm

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return multiply(*args, **kwargs)

    monkeypatch.setattr(torch, "mm", spy)
    before, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("high")
        with torch.autocast("cpu", torch.bfloat16):
            points = naive.unit_vectors(clustered(30))
            check(search_processor(points, 5, resources), points, 5)
            check(search_device(points, 5, resources), points, 5)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]
    assert torch.get_num_threads() == threads


def test_unusable_devices_are_named(resources: Resources) -> None:
    with pytest.raises(ClusteringError, match=r"device='abacus' cannot be used.*pass device='cpu'"):
        search_device(np.eye(3, dtype=np.float32), 2, resources._replace(device="abacus"))


@pytest.mark.parametrize("where", ["device", "faiss"])
@pytest.mark.parametrize("count", [1, 30, 130])
def test_queries_find_the_best_points(
    where: str, count: int, monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    fake_faiss(monkeypatch)
    monkeypatch.setattr(search, "_DEVICE_TILE", (64, 100))
    points, queries = naive.unit_vectors(clustered(300)), naive.unit_vectors(clustered(count, seed=1))
    find: Any = search_device if where == "device" else search.search_faiss
    found = find(points, WIDTH, resources, queries=queries)
    best = np.sort(queries @ points.T)[:, ::-1][:, :WIDTH]
    np.testing.assert_allclose(np.sort(found.scores)[:, ::-1], best, atol=1e-6)
    np.testing.assert_array_equal(found.floor, found.scores.min(1))


def test_absent_faiss_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, resources: Resources
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ClusteringError, match=r"pip install reidkit\[cpu\]"):
        search.search_faiss(np.eye(3, dtype=np.float32), 2, resources)


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:1", 1), ("mps", 0)])
def test_faiss_that_does_not_know_the_device_is_refused(
    device: str, gpus: int, monkeypatch: pytest.MonkeyPatch, resources: Resources
) -> None:
    fake_faiss(monkeypatch).get_num_gpus = lambda: gpus
    with pytest.raises(ClusteringError, match=rf"on {gpus} GPUs here, not on device='{device}'.*reidkit\[gpu\]"):
        search.search_faiss(np.eye(3, dtype=np.float32), 2, resources._replace(device=device))


def test_faiss_searches_on_the_gpu_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    moved = []

    def move(gpu: object, number: int, index: FlatIndex) -> FlatIndex:
        moved.append(number)
        return index

    more = {"StandardGpuResources": object, "index_cpu_to_gpu": move}
    fake_faiss(monkeypatch, **more).get_num_gpus = lambda: 2
    points = naive.unit_vectors(clustered(80))
    for device in ("cpu", "cuda", "cuda:1"):
        check(search.search_faiss(points, WIDTH, resources._replace(device=device)), points, WIDTH)
    assert moved == [0, 1]


def test_faiss_uses_the_threads_of_the_search(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    faiss = fake_faiss(monkeypatch)
    points = naive.unit_vectors(clustered(80))
    check(search.search_faiss(points, WIDTH, resources), points, WIDTH)
    assert faiss.threads == [7, 2, 7]


def test_faiss_that_multiplies_in_less_than_float32_is_refused(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    class Rounded(FlatIndex):
        def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            scores, indices = super().search(queries, k)
            return scores.astype(np.float16).astype(np.float32), indices

    fake_faiss(monkeypatch, Rounded)
    with pytest.raises(ClusteringError, match="less than float32 on device='cpu'; pass backend='torch'"):
        search.search_faiss(naive.unit_vectors(clustered(80)), WIDTH, resources)


def test_what_faiss_cannot_do_is_an_error(monkeypatch: pytest.MonkeyPatch, resources: Resources) -> None:
    class Small(FlatIndex):
        def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            raise RuntimeError("k is limited to 2048")

    faiss = fake_faiss(monkeypatch, Small)
    with pytest.raises(ClusteringError, match="faiss cannot search on device='cpu': k is limited to 2048"):
        search.search_faiss(np.eye(3, dtype=np.float32), 2, resources)
    assert faiss.threads[-1] == 7
