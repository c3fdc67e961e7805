"""What a reader is to the campaign, and what the files of several of them need."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.backbones import EmbeddingModel
from reidkit.errors import ReidkitError
from reidkit.inference import Embedder
from reidkit.inference.embedder import Embedded
from reidkit.loop import build_model
from tests.tiny import tiny_config

__all__ = ["COUNT", "EMBEDDER", "WIDTH", "Reader", "features", "model", "picture", "refusable", "state"]

COUNT, WIDTH = 24, 8
"""Images, and numbers of a feature."""


class Reader(NamedTuple):
    """A place that reads what others wrote."""

    write: Callable[[Path], object]
    """Writes a valid input into an empty folder."""
    read: Callable[[Path], object]
    """Reads a folder of that kind."""
    targets: str = "*"
    """Which of the files are changed: a glob."""
    changes: Callable[[bytes, Random], bytes] | None = None
    """Changes what a file means, where a blind change would only break it."""
    folder: bool = False
    """Whether pipes, loops and odd names may lie in it too."""
    share: float = 1.0
    """How many inputs a campaign takes, relative to the others: what is slow gets fewer."""


class _Stub:
    """Stands in for a model: reading an index or a work folder needs no more of it."""

    fingerprint, precision, feature_dim, sie_cameras, checkpoint = "f" * 64, "32", WIDTH, 0, Path("model.pt")

    def stream(self, images: list[Path], **_: object) -> Iterator[Embedded]:
        """One batch of features, all images readable."""
        rows = np.full((len(images), WIDTH), WIDTH**-0.5, np.float32)
        yield Embedded(rows, np.ones(len(images), np.bool_), [])


EMBEDDER = cast(Embedder, _Stub())


@cache
def model() -> EmbeddingModel:
    """A very small one."""
    return build_model(tiny_config("synthetic").backbone, 0)


def state(**more: Any) -> dict[str, Any]:
    """What a checkpoint of ours holds."""
    settings = tiny_config("synthetic").model_dump_json()
    return {"format": 2, "config": settings, "model": model().state_dict(), "epoch": 1, "best": 0.5, **more}


def features() -> NDArray[np.float32]:
    """Of `COUNT` images."""
    return np.random.default_rng(0).standard_normal((COUNT, WIDTH), dtype=np.float32)


def picture(path: Path, shade: int = 0, **options: Any) -> None:
    """Write a small image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(shade).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path, **options)


def refusable(read: Callable[[], object]) -> None:
    """Call, and go on after a refusal: what follows is read too."""
    with suppress(ReidkitError):
        read()
