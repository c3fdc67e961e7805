"""From a cosine to the probability that two images show the same individual."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.inference.embedder import Embedder
from reidkit.inference.extraction import embed_blocks
from reidkit.inference.sources import find_images
from reidkit.loop import Progress
from reidkit.storage import atomic_write, read_file

__all__ = ["Calibration", "calibrate", "fit_calibration", "read_calibration", "write_calibration"]

_PAIRS = 200_000  # of each kind; more do not change the curve visibly
_FEWEST = 50
_ISOTONIC = 1000  # pairs of the same identity, enough for a curve of any form
_PER_IDENTITY = 500  # images of one identity that are paired
_GRID = 401


class Calibration(NamedTuple):
    """A curve from cosine to probability, linear between its knots."""

    cosines: NDArray[np.float64]
    """(K,) ascending."""
    probabilities: NDArray[np.float64]
    """(K,) of the same identity, where same and different are equally likely beforehand."""
    same: int
    """Pairs of one identity that it was fitted to."""
    different: int
    """Pairs of two identities."""

    def probability(self, cosines: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Probabilities, in (0, 1), of cosines of any shape."""
        return np.asarray(np.interp(cosines, self.cosines, self.probabilities))


def calibrate(
    embedder: Embedder, dataset: str, *, data_root: Path | None = None, progress: Progress | None = None
) -> Calibration:
    """Fit a calibration to the readable images of known identity of a data set.

    Args:
        embedder: From `load`.
        dataset: A name, a folder or a table, as `find_images` takes it.
        data_root: Folder of the data sets.
        progress: Gets the number of images done.

    Raises:
        DataError: The data set is not found, or has too few pairs.
    """
    images = find_images([dataset], data_root=data_root)
    images = images.subset(images.identities >= 0)
    progress = progress or Progress()
    progress.begin(f"embed {dataset}", len(images))
    blocks = list(embed_blocks(embedder, images.paths, progress))
    features = np.concatenate([np.empty((0, embedder.feature_dim), np.float32), *(block.features for block in blocks)])
    readable = np.concatenate([np.empty(0, np.bool_), *(block.readable for block in blocks)])
    return fit_calibration(features, images.subset(readable))


def fit_calibration(features: NDArray[np.float32], images: Split, *, seed: int = 0) -> Calibration:
    """Fit the probability that a pair of images at other cameras shows the same identity, given its cosine.

    Pairs of the same and of different identities have the same total weight, so that the probability does not depend on
    the size of a gallery or the number of its people: it is the posterior at even odds. For other odds o, multiply
    p / (1 - p) by o. Isotonic regression (Zadrozny and Elkan, KDD 2002); where there are fewer than 1,000 pairs of the
    same identity, logistic regression (Platt, 1999). Where all pairs agree, the curve ends at the rule of succession,
    not at certainty.

    Args:
        features: (N, D), L2-normalised.
        images: Their N identities and cameras; those of unknown identity are left out, unknown cameras differ from all.
        seed: Draws 200,000 pairs of each kind where there are more.

    Raises:
        DataError: There are fewer than 50 pairs of the same, or of different identities.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    # Pairs
    rng = np.random.default_rng(seed)
    pairs = _same_pairs(images, rng), _different_pairs(images, rng)
    counts = pairs[0].shape[1], pairs[1].shape[1]
    if min(counts) < _FEWEST:
        raise DataError(
            f"the labelled images hold {counts[0]:,} pairs of one identity and {counts[1]:,} of two, at different "
            f"cameras; a calibration needs {_FEWEST} of each: name a larger data set, with query and gallery images"
        )

    # Curve
    cosines = _cosines(features, *np.concatenate(pairs, axis=1))
    labels = np.repeat([1, 0], counts)
    weights = np.repeat([0.5 / counts[0], 0.5 / counts[1]], counts) * sum(counts)
    if counts[0] >= _ISOTONIC:
        isotonic = IsotonicRegression().fit(cosines, labels, sample_weight=weights)
        knots, probabilities = isotonic.X_thresholds_, isotonic.y_thresholds_
    else:
        logistic = LogisticRegression(C=1e3).fit(cosines[:, None], labels, sample_weight=weights)
        knots = np.linspace(-1, 1, _GRID)
        probabilities = logistic.predict_proba(knots[:, None])[:, 1]
    margin = 1 / (min(counts) + 2)
    return Calibration(knots, np.clip(probabilities, margin, 1 - margin), *counts)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Store a calibration as JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(calibration._asdict(), default=np.ndarray.tolist).encode())


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` stored.

    Raises:
        DataError: The file is damaged.
    """
    try:
        stored = json.loads(read_file(path))
        knots, probabilities = (np.array(stored[name], dtype=np.float64) for name in ("cosines", "probabilities"))
        if knots.ndim != 1 or not len(knots) or knots.shape != probabilities.shape:
            raise ValueError(f"a curve has a probability for each cosine, not {probabilities.shape} for {knots.shape}")
        if not (np.isfinite([knots, probabilities]).all() and (np.diff(knots) >= 0).all()):
            raise ValueError("its cosines do not ascend, or are not finite")
        return Calibration(knots, probabilities, int(stored["same"]), int(stored["different"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); calibrate again with --calibrate, or remove it") from error


def _same_pairs(images: Split, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images (2, M) of all pairs of one identity at two cameras, or of a sample of them."""
    order = rng.permutation(np.flatnonzero(images.identities >= 0))
    order = order[np.argsort(images.identities[order], kind="stable")]
    _, starts = np.unique(images.identities[order], return_index=True)
    found = []
    for members in np.split(order, starts[1:]):
        chosen = members[:_PER_IDENTITY]
        pairs = chosen[np.stack(np.triu_indices(len(chosen), 1))]
        found.append(pairs[:, _apart(images.cameras, pairs)])
    pairs = np.concatenate(found, axis=1)
    if pairs.shape[1] > _PAIRS:
        pairs = pairs[:, rng.choice(pairs.shape[1], _PAIRS, replace=False)]
    return pairs


def _different_pairs(images: Split, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images (2, M) of pairs of two identities at two cameras, drawn evenly."""
    known = np.flatnonzero(images.identities >= 0)
    if not len(known):
        return np.empty((2, 0), np.int64)
    pairs = rng.choice(known, (2, 3 * _PAIRS))
    identities = images.identities[pairs]
    return pairs[:, (identities[0] != identities[1]) & _apart(images.cameras, pairs)][:, :_PAIRS]


def _apart(cameras: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether pairs are not known to be of one camera, whose consecutive images are alike."""
    first, second = cameras[pairs]
    return np.asarray((first != second) | (first < 0))


def _cosines(features: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosines (M,) in blocks: gathered whole, the features of all pairs would take gigabytes."""
    cosines = np.empty(len(first))
    for start in range(0, len(cosines), 8192):
        part = slice(start, start + 8192)
        cosines[part] = np.einsum("md,md->m", features[first[part]], features[second[part]])
    return cosines
