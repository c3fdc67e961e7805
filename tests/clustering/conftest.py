"""Features to cluster."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

Clustered: TypeAlias = Callable[..., NDArray[np.float32]]


@pytest.fixture
def clustered() -> Clustered:
    """Make features (n, d) around n / 12 centres, in random order; spread is the noise relative to the centres."""

    def make(n: int, *, d: int = 32, spread: float = 0.6, seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        centres = random.standard_normal((max(1, n // 12), d))
        features = centres[random.integers(len(centres), size=n)] + spread * random.standard_normal((n, d))
        return features.astype(np.float32)

    return make
