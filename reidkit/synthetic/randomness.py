"""Independent random streams, so that an image depends on its key alone."""

import numpy as np

from reidkit.synthetic.config import Style

__all__ = ["stream"]

_PURPOSES = ("wardrobe", "visits", "track", "image", "distractor", "scene", "camera", "passer-by")
_STYLES: tuple[Style, ...] = ("summer", "winter")


def stream(purpose: str, seed: int, style: Style, *key: int) -> np.random.Generator:
    """A separate generator for every purpose (one of a fixed list), seed, style and key of integers >= 0."""
    return np.random.default_rng([_PURPOSES.index(purpose), seed, _STYLES.index(style), *key])
