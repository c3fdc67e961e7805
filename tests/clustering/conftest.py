"""Features to cluster, and stand-ins for faiss."""

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.clustering.parallel import Resources, open_resources

Clustered: TypeAlias = Callable[..., NDArray[np.float32]]


class FlatIndex:
    """The part of faiss.IndexFlatIP that the search uses."""

    def __init__(self, dimension: int) -> None:
        self.points = np.empty((0, dimension), np.float32)

    def train(self, points: NDArray[np.float32]) -> None:
        assert points.shape[1] == self.points.shape[1]

    def add(self, points: NDArray[np.float32]) -> None:
        self.points = points

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = queries @ self.points.T
        indices = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, indices, axis=1), indices


def fake_faiss(monkeypatch: pytest.MonkeyPatch, index: Any = FlatIndex, **more: Any) -> SimpleNamespace:
    """Put a module in the place of faiss, with an index of its flat kind; without GPUs unless more says so."""
    threads = [7]
    module = SimpleNamespace(
        __version__="0.1",
        IndexFlatIP=index,
        get_num_gpus=lambda: 0,
        omp_get_max_threads=lambda: threads[-1],
        omp_set_num_threads=threads.append,
        threads=threads,
        **more,
    )
    monkeypatch.setitem(sys.modules, "faiss", cast(Any, module))
    return module


@pytest.fixture
def resources() -> Iterator[Resources]:
    """Two threads of this process alone."""
    with open_resources(2) as opened:
        yield opened


@pytest.fixture
def clustered() -> Clustered:
    """Make features (n, d) around n / 12 centres, in random order; spread is the noise relative to the centres."""

    def make(n: int, *, d: int = 32, spread: float = 0.6, seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        centres = random.standard_normal((max(1, n // 12), d))
        features = centres[random.integers(len(centres), size=n)] + spread * random.standard_normal((n, d))
        return features.astype(np.float32)

    return make
