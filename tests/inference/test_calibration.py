"""A probability of 0.7 is right in 70 of 100 cases."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.inference import Calibration, fit_calibration
from reidkit.inference.calibration import read_calibration, write_calibration


def draw(identities: int, images: int, seed: int) -> tuple[NDArray[np.float32], Split]:
    """People as directions, images as noise around them; one camera flatters: its images are all alike."""
    rng = np.random.default_rng(seed)
    labels, cameras = np.repeat(np.arange(identities), images), np.tile(np.arange(images) % 4, identities)
    features = rng.standard_normal((identities, 16))[labels] + 0.9 * rng.standard_normal((len(labels), 16))
    features[cameras == 0] += 3.0
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    paths = tuple(Path(f"{number}.jpg") for number in range(len(labels)))
    return features.astype(np.float32), Split(paths, labels, cameras)


def calibration_error(calibration: Calibration, features: NDArray[np.float32], images: Split) -> float:
    """Expected calibration error of ten bins over all pairs at other cameras, both kinds weighing the same."""
    rows, columns = np.triu_indices(len(features), 1)
    apart = images.cameras[rows] != images.cameras[columns]
    rows, columns = rows[apart], columns[apart]
    same = images.identities[rows] == images.identities[columns]
    probabilities = calibration.probability((features[rows] * features[columns]).sum(1))
    weights = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    bins = np.minimum((10 * probabilities).astype(int), 9)
    gaps = np.bincount(bins, weights * (probabilities - same), minlength=10)
    return float(np.abs(gaps).sum())


@pytest.mark.parametrize(("identities", "limit"), [(300, 0.03), (10, 0.1)], ids=["isotonic", "logistic"])
def test_it_is_calibrated_on_people_it_has_not_seen(identities: int, limit: float) -> None:
    calibration = fit_calibration(*draw(identities, 8, seed=0))
    # The size of the gallery changes nothing.
    for others in (100, 200):
        assert calibration_error(calibration, *draw(others, 8, seed=1)) < limit
    assert (np.diff(calibration.probabilities) >= 0).all()
    assert calibration.probability(np.array([-1.0]))[0] < 0.1
    assert 0.9 < calibration.probability(np.array([1.0]))[0] < 1


def test_unknown_identities_and_pairs_of_one_camera_count_for_nothing(tmp_path: Path) -> None:
    features, images = draw(60, 8, seed=0)
    calibration = fit_calibration(features, images)
    assert calibration.same == 60 * (28 - 4)  # of 28 pairs of eight images, four are of one camera
    unknown = Split(
        images.paths * 2, np.concatenate([images.identities, -np.ones(480, int)]), np.tile(images.cameras, 2)
    )
    more = fit_calibration(np.concatenate([features, features[::-1]]), unknown)
    assert more.same == calibration.same
    write_calibration(tmp_path / "calibration.json", calibration)
    stored = read_calibration(tmp_path / "calibration.json")
    for value, expected in zip(stored, calibration, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_too_few_pairs_and_damage_are_said(tmp_path: Path) -> None:
    features, images = draw(2, 3, seed=0)
    with pytest.raises(DataError, match="hold 6 pairs of one identity"):
        fit_calibration(features, images)
    with pytest.raises(DataError, match="hold 0 pairs"):
        fit_calibration(features, Split(images.paths, np.full(6, -1), images.cameras))
    curves: Any = (
        ([0.1, 0.2], [0.5]),
        ([], []),
        ([[0.1]], [[0.5]]),
        ([0.2, 0.1], [0.5, 0.6]),
        ([0.1, float("nan")], [0.5, 0.6]),
    )
    known = [{"cosines": x, "probabilities": y, "same": 60, "different": 60} for x, y in curves]
    for content in ([], *known):
        (tmp_path / "calibration.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="is damaged"):
            read_calibration(tmp_path / "calibration.json")
