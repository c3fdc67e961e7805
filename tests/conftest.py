"""Fixtures that many rooms share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_people

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let Ctrl-C be heard: shells start what runs in the background deaf to it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def golden() -> Callable[[str], dict[str, Any]]:
    """Read one file of golden numbers (outputs of the methods' public implementations) by its stem."""

    def read(stem: str) -> dict[str, Any]:
        with np.load(GOLDEN / f"{stem}.npz") as arrays:
            return dict(arrays)

    return read


@pytest.fixture
def omniglot() -> Path:
    """The folder with `omniglot_a` and `omniglot_b`, real images in Market-1501 layout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small set of generated pedestrians; do not write into it."""
    return tiny_people(tmp_path_factory.mktemp("data") / "people")


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few people of another domain; do not write into it."""
    folder = tmp_path_factory.mktemp("data") / "others"
    return tiny_people(folder, train_identities=6, seed=9)
