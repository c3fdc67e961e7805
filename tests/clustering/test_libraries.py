"""Which library searches: the trial, what it is remembered for, and what the log says."""

import logging
import sys
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.clustering import jaccard_graph, libraries, nearest_neighbours
from reidkit.clustering.candidates import search_processor
from reidkit.clustering.libraries import SearchTask, choose_library
from reidkit.clustering.parallel import Resources
from reidkit.clustering.rounding import Half, Single
from reidkit.distributed import ProcessGroup
from tests import naive
from tests.clustering.conftest import Clustered, FlatIndex, fake_faiss


class SlowIndex(FlatIndex):
    """An index that takes longer than any search of a test."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        time.sleep(1)
        return super().search(queries, k)


@pytest.fixture(autouse=True)
def _small_trials(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Trials of few points, none of them remembered; the log in full."""
    monkeypatch.setattr(libraries, "_FEWEST", 100**2)
    monkeypatch.setattr(libraries, "_fastest", {})
    caplog.set_level(logging.INFO, "reidkit.clustering")


def slow_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch take longer than any search of a test."""

    def wait(*arguments: Any, **options: Any) -> Any:
        time.sleep(1)
        return search_processor(*arguments, **options)

    monkeypatch.setattr(libraries, "search_processor", wait)


def test_faiss_searches_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    features = clustered(300)
    expected = nearest_neighbours(features, 10, backend="torch")
    caplog.clear()
    fake_faiss(monkeypatch)
    slow_torch(monkeypatch)
    np.testing.assert_array_equal(nearest_neighbours(features, 10), expected)
    (message,) = caplog.messages
    assert message.startswith("neighbours: faiss 0.1 on cpu in float32 (torch ")
    assert message.endswith(" times as long on a sample)")


def test_torch_searches_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    fake_faiss(monkeypatch, SlowIndex)
    features = clustered(300)
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))
    (message,) = caplog.messages
    assert message.startswith("neighbours: torch 2.")
    assert " on cpu in float32 (faiss 0.1 took " in message


def test_a_trial_is_remembered_for_features_of_a_like_size(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = []

    def trial(task: SearchTask, *others: Any) -> tuple[str, str]:
        trials.append((*task.points.shape, task.queries is None))
        return "torch", "tried"

    fake_faiss(monkeypatch)
    monkeypatch.setattr(libraries, "_try_libraries", trial)
    for dimension in (40, 63, 64, 40):
        nearest_neighbours(np.eye(300, dimension), 5)
    nearest_neighbours(np.eye(200, 40), 5, queries=np.eye(200, 40))
    assert trials == [(300, 40, True), (300, 64, True), (200, 40, False)]


@pytest.mark.parametrize(
    ("options", "installed", "reason"),
    [
        ({}, False, "no faiss for this device is installed"),
        ({"device": "cpu:0"}, False, "no faiss for this device is installed"),
        ({"backend": "torch"}, True, "as asked"),
        ({"backend": "faiss"}, True, "as asked"),
    ],
)
def test_nothing_is_tried_where_there_is_no_choice(
    options: dict[str, Any],
    installed: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clustered: Clustered,
) -> None:
    if installed:
        fake_faiss(monkeypatch)
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delattr(libraries, "_try_libraries")
    nearest_neighbours(clustered(300), 5, **options)
    (message,) = caplog.messages
    assert message.endswith(f"({reason})")


def test_few_images_are_searched_without_a_trial(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    fake_faiss(monkeypatch)
    monkeypatch.delattr(libraries, "_try_libraries")
    nearest_neighbours(clustered(99), 5)
    assert caplog.messages[0].endswith("(too few images for a trial)")


def test_a_camera_aware_graph_logs_one_search(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    fake_faiss(monkeypatch)
    jaccard_graph(clustered(300), cameras=np.arange(300) % 5)
    (message,) = caplog.messages
    assert message.endswith("(the only one that searches by camera)")


def test_faiss_that_fails_leaves_the_search_to_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clustered: Clustered
) -> None:
    class Broken(FlatIndex):
        def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            raise RuntimeError("out of memory")

    fake_faiss(monkeypatch, Broken)
    features = clustered(300)
    np.testing.assert_array_equal(nearest_neighbours(features, 10), naive.nearest_neighbours(features, 10))
    (message,) = caplog.messages
    assert "torch" in message
    assert message.endswith("(faiss failed: faiss cannot search on device='cpu': out of memory)")


def test_the_trial_is_a_part_of_a_search_of_a_sample(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    """Of 1,000 points every fourth, and of the products among these a fifth; an eighth to warm up."""
    seen = []

    def propose(task: SearchTask, width: int, library: str, given: Resources, *, half: bool) -> None:
        seen.append((library, len(task.points), width, given.processes.size, half))

    fake_faiss(monkeypatch)
    for name, value in (("propose", propose), ("_POINTS", 250), ("_PRODUCTS", 250**2 * 32 // 5), ("_WARM_UP", 200)):
        monkeypatch.setattr(libraries, name, value)
    choose_library(SearchTask(naive.unit_vectors(clustered(1000)), 10), resources)
    once = [("torch", 125, 26, 5, False), *[("torch", 250, 26, 5, False)] * 2]
    assert seen == once + [("faiss", *trial[1:]) for trial in once]


def test_the_main_process_chooses_for_all(
    monkeypatch: pytest.MonkeyPatch, clustered: Clustered, resources: Resources
) -> None:
    """A second process takes what it is sent, and computes the bounds of bfloat16 for itself."""
    points = naive.unit_vectors(clustered(300))
    monkeypatch.delattr(libraries, "_fastest_library")
    second = resources._replace(processes=ProcessGroup(None, 1, 2))
    for sent, kind in ((("faiss", False), Single), (("torch", True), Half)):
        monkeypatch.setattr(ProcessGroup, "broadcast", lambda self, value, sent=sent: sent)
        library, rounding = choose_library(SearchTask(points, 5), second)
        assert library == sent[0]
        assert isinstance(rounding, kind)


def test_faiss_itself_finds_the_same(clustered: Clustered, caplog: pytest.LogCaptureFixture) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is an extra")
    features = np.concatenate([clustered(2000), np.repeat(clustered(30, seed=1), 20, axis=0)])
    expected = nearest_neighbours(features, 20, backend="torch")
    np.testing.assert_array_equal(nearest_neighbours(features, 20, backend="faiss", threads=1), expected)
    np.testing.assert_array_equal(nearest_neighbours(features, 20), expected)
    assert f"faiss {faiss.__version__} " in caplog.messages[-1]
    found = nearest_neighbours(features, 20, queries=features[:50], backend="faiss")
    np.testing.assert_array_equal(found, nearest_neighbours(features, 20, queries=features[:50], backend="torch"))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "faiss", "auto"])
def test_a_gpu_agrees(backend: str, clustered: Clustered, caplog: pytest.LogCaptureFixture) -> None:
    if backend == "faiss" and not getattr(pytest.importorskip("faiss"), "get_num_gpus", int)():
        pytest.skip("faiss is installed for CPUs")
    features = clustered(6000)
    queries = clustered(70, seed=1)
    found = nearest_neighbours(features, 30, device="cuda", backend=backend)
    np.testing.assert_array_equal(found, nearest_neighbours(features, 30, backend="torch"))
    assert any(" on cuda in float32 (" in message for message in caplog.messages)
    found = nearest_neighbours(features, 30, queries=queries, device="cuda", backend=backend)
    np.testing.assert_array_equal(found, nearest_neighbours(features, 30, queries=queries, backend="torch"))
