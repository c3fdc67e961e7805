from typing import Any, cast

import numpy as np
import pytest
from scipy.sparse import csr_array

from reidkit.clustering.checks import (
    check_count,
    check_distance,
    check_neighbourhood,
    real_rows,
    unit_rows,
)
from reidkit.errors import ClusteringError
from tests import naive
from tests.clustering.conftest import Clustered


def test_rows_have_unit_length(clustered: Clustered) -> None:
    features = clustered(1100)
    unit = unit_rows(features)
    assert unit.dtype == np.float32
    assert unit.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(unit, naive.unit_vectors(features))


def test_precision_and_layout_of_the_input_do_not_matter(clustered: Clustered) -> None:
    features = clustered(60)
    unit = unit_rows(features)
    np.testing.assert_array_equal(unit_rows(features.astype(np.float64)), unit)
    np.testing.assert_array_equal(unit_rows(np.asfortranarray(features)), unit)
    np.testing.assert_array_equal(unit_rows(features.tolist()), unit)


def test_input_is_not_touched(clustered: Clustered) -> None:
    features = clustered(60).astype(np.float64)
    before = features.copy()
    unit_rows(features)
    np.testing.assert_array_equal(features, before)


def test_real_rows_are_not_copied(clustered: Clustered) -> None:
    features = clustered(60)
    assert np.shares_memory(real_rows(features), features)
    assert real_rows([[1, 2]]).dtype == np.float64
    assert np.isnan(real_rows([[np.nan, 1.0]])).any()


def test_extreme_magnitudes_keep_their_direction() -> None:
    rows = np.array([[3.0, 4.0], [3e200, 4e200], [3e-200, 4e-200], [3e-310, 4e-310]])
    np.testing.assert_allclose(unit_rows(rows), np.tile([0.6, 0.8], (4, 1)), rtol=1e-6)


def test_zero_stays_zero() -> None:
    np.testing.assert_array_equal(unit_rows(np.array([[0.0, 0.0], [0.0, 2.0]])), [[0, 0], [0, 1]])


def test_integers_are_features_too() -> None:
    np.testing.assert_allclose(unit_rows(np.array([[3, 4]])), [[0.6, 0.8]])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(5), "2D array"),
        (np.zeros((2, 2, 2)), "dim 3"),
        (np.zeros((0, 4)), r"0 sample\(s\)"),
        (np.zeros((4, 0)), r"0 feature\(s\)"),
        (np.ones((2, 2)) * 1j, "Complex data not supported"),
        ([["a", "b"]], "could not convert string"),
        (csr_array(np.eye(3)), "toarray"),
        ([[1.0, np.nan], [1.0, 2.0]], "1 of 2 features contain NaN or infinity, the first in row 0"),
        ([[1.0, 2.0], [1.0, -np.inf], [np.inf, 0.0]], "2 of 3 features contain NaN or infinity, the first in row 1"),
    ],
)
def test_what_is_no_feature_is_refused(features: Any, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        unit_rows(features)


@pytest.mark.parametrize("value", [0, -3, 2.0, True, None, "4"])
def test_counts_are_positive_integers(value: Any) -> None:
    with pytest.raises(ClusteringError, match=r"min_samples=.* must be an integer of at least 1"):
        check_count("min_samples", value)
    check_count("min_samples", cast(Any, np.int64(1)))


def test_query_expansion_cannot_exceed_the_neighbours() -> None:
    check_neighbourhood(6, 6)
    with pytest.raises(ClusteringError, match=r"k2=7 must not exceed k1=6.*lower k2"):
        check_neighbourhood(6, 7)


def test_query_expansion_by_camera_cannot_exceed_the_neighbours() -> None:
    check_neighbourhood(1, 0, kind="_inter", least=0)
    with pytest.raises(ClusteringError, match=r"k2_intra=3 must not exceed k1_intra=2.*lower k2_intra"):
        check_neighbourhood(2, 3, kind="_intra")
    with pytest.raises(ClusteringError, match="k2_inter=-1 must be an integer of at least 0"):
        check_neighbourhood(21, -1, kind="_inter", least=0)
    with pytest.raises(ClusteringError, match="k2_intra=0 must be an integer of at least 1"):
        check_neighbourhood(21, 0, kind="_intra")


@pytest.mark.parametrize("value", [1, 1.5, -0.1, 0.999999999, float("nan"), float("inf"), 1e300])
def test_distances_are_below_one(value: float) -> None:
    with pytest.raises(ClusteringError, match="eps="):
        check_distance("eps", value, zero=True)


def test_zero_is_a_bound_only_where_allowed() -> None:
    assert check_distance("max_distance", 0, zero=True) == 0
    with pytest.raises(ClusteringError, match=r"eps=0 must lie in \(0, 1\)"):
        check_distance("eps", 0)
