"""Independent random streams, so that what one image shows depends on its own key and on nothing else."""

import numpy as np

from reidkit.synthetic.config import Style

__all__ = ["stream"]

_PURPOSES = ("wardrobe", "visits", "track", "image", "distractor", "scene", "camera", "passer-by")
_STYLES: tuple[Style, ...] = ("summer", "winter")


def stream(purpose: str, seed: int, style: Style, *key: int) -> np.random.Generator:
    """A generator of its own for every (purpose, seed, style, key).

    Args:
        purpose: What the numbers are for, one of a fixed list.
        seed: The set's seed, >= 0.
        style: The domain.
        *key: Identity, camera, index: non-negative integers.
    """
    return np.random.default_rng([_PURPOSES.index(purpose), seed, _STYLES.index(style), *key])
