import json
import math
from collections import Counter
from itertools import combinations
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples

from reidkit.clustering import dbscan, jaccard_graph
from reidkit.clustering.quality import (
    SizeBin,
    camera_mix,
    cluster_sizes,
    clustering_record,
    fill_silhouettes,
    identity_agreement,
    silhouette,
    size_histogram,
    stability,
)
from reidkit.clustering.sparse_rows import Rows
from reidkit.errors import ClusteringError
from tests.clustering.conftest import Clustered

Labels = NDArray[np.int64]


def random_graph(n: int, seed: int, kept: float) -> tuple[NDArray[np.float32], "csr_array[Any, tuple[int, int]]"]:
    """Dense symmetric distances that are 1 where the sparse graph holds nothing, some of the stored ones zero."""
    random = np.random.default_rng(seed)
    distance = np.triu(random.integers(0, 21, (n, n)) / 20, 1)
    stored = np.triu(random.random((n, n)) < kept, 1)
    distance = np.where(stored, distance, np.triu(np.ones((n, n)), 1))
    distance, stored = distance + distance.T, stored | stored.T | np.eye(n, dtype=bool)
    row, column = np.nonzero(stored)
    return distance.astype(np.float32), csr_array((distance[row, column].astype(np.float32), (row, column)), (n, n))


def random_labels(n: int, clusters: int, seed: int) -> Labels:
    """Clusters and noise."""
    return np.random.default_rng(seed).integers(-1, clusters, n)


def test_sizes() -> None:
    images, noise, sizes = cluster_sizes([2, -1, 0, 2, 2, -1, 7])
    assert (images, noise) == (7, 2)
    assert sizes.tolist() == [1, 3, 1]
    assert cluster_sizes([-1, -1]).sizes.tolist() == []


@given(st.lists(st.integers(1, 3000), max_size=40))
def test_every_cluster_is_in_one_bin(sizes: list[int]) -> None:
    bins = size_histogram(np.array(sizes, np.int64))
    assert sum(entry.clusters for entry in bins) == len(sizes)
    for smallest, largest, clusters in bins:
        assert clusters == sum(smallest <= size <= largest for size in sizes)
        assert largest in (1, 2) or largest == 2 * smallest - 2
    if sizes:
        assert bins[0].clusters
        assert bins[-1].clusters


def test_bins_between_may_be_empty() -> None:
    assert size_histogram(np.array([2, 2, 9])) == [
        SizeBin(2, 2, 2),
        SizeBin(3, 4, 0),
        SizeBin(5, 8, 0),
        SizeBin(9, 16, 1),
    ]


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(4, 60),
    seed=st.integers(0, 10_000),
    clusters=st.integers(2, 12),
    kept=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_silhouette_is_that_of_the_dense_matrix(n: int, seed: int, clusters: int, kept: float) -> None:
    distance, graph = random_graph(n, seed, kept)
    labels = random_labels(n, clusters, seed)
    clustered = labels >= 0
    found = len(set(labels[clustered].tolist()))
    value = silhouette(graph, labels)
    if found < 2:
        assert math.isnan(value)
    elif found == clustered.sum():  # scikit-learn refuses clusters of one only
        assert value == 0
    else:
        dense = distance[np.ix_(clustered, clustered)]
        expected = silhouette_samples(dense, labels[clustered], metric="precomputed").mean()
        assert value == pytest.approx(expected, abs=1e-6)
        assert silhouette(graph, 3 * labels, threads=1) == value


def test_silhouette_of_real_clusters(clustered: Clustered) -> None:
    graph = jaccard_graph(clustered(300), k1=12, k2=4, max_distance=0.6)
    labels, _ = dbscan(graph, eps=0.6, min_samples=4)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert silhouette(graph, labels) > 0.3 > silhouette(graph, shuffled)


def test_kernels_agree_with_their_python() -> None:
    _, graph = random_graph(50, 1, 0.3)
    labels = random_labels(50, 5, 1)
    rows = Rows(graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data)
    sizes = np.bincount(labels[labels >= 0])
    compiled, plain = np.zeros(50), np.zeros(50)
    fill_silhouettes(rows, labels, sizes, compiled, 0, 50)
    cast(Any, fill_silhouettes).py_func(rows, labels, sizes, plain, 0, 50)
    np.testing.assert_allclose(compiled, plain, atol=1e-12)
    assert np.abs(plain).max() > 0


def test_one_thread_and_many_agree(clustered: Clustered) -> None:
    graph = jaccard_graph(clustered(700), k1=12, k2=4, max_distance=0.7)
    labels, _ = dbscan(graph, eps=0.6, min_samples=4)
    assert silhouette(graph, labels, threads=1) == silhouette(graph, labels, threads=4)


def test_stability_is_about_images_clustered_in_both() -> None:
    first, second = random_labels(80, 6, 0), random_labels(80, 9, 1)
    pairs = [(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a >= 0 and b >= 0]
    assert stability(first, second) == pytest.approx(adjusted_rand_score(*zip(*pairs, strict=True)))
    assert stability(first, 5 - first * (first >= 0)) == 1
    assert math.isnan(stability([0, -1], [-1, 0]))


def test_camera_mix_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, -1, 3]
    cameras = [0, 0, 1, 1, 2, 2, -1, 3, 0]
    mix = camera_mix(labels, cameras)
    assert mix.cameras_per_cluster == pytest.approx((2 + 1 + 1) / 3)
    assert mix.entropy == pytest.approx((math.log(2) / math.log(4) + 0 + 0) / 3)
    even = camera_mix([0] * 6, [4, 5, 6] * 2)
    assert tuple(even) == pytest.approx((3, 1))
    assert camera_mix([0, 0, 1], [7, 7, 7]) == (1, 0)
    assert all(math.isnan(value) for value in camera_mix([0, -1], [-1, 0]))


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 10_000), clusters=st.integers(1, 10), identities=st.integers(1, 10))
def test_agreement_counted_pair_by_pair(n: int, seed: int, clusters: int, identities: int) -> None:
    labels, truth = random_labels(n, clusters, seed), random_labels(n, identities, seed + 1)
    images = [image for image in range(n) if truth[image] >= 0]
    pairs = list(combinations(images, 2))
    same_cluster = {(i, j) for i, j in pairs if labels[i] == labels[j] >= 0}
    same_identity = {(i, j) for i, j in pairs if truth[i] == truth[j]}
    both = len(same_cluster & same_identity)
    members = [truth[(labels == label) & (truth >= 0)].tolist() for label in range(clusters)]
    clustered = sum(map(len, members))
    pure = sum(max(Counter(identity).values()) for identity in members if identity)
    alone = [labels[image] if labels[image] >= 0 else 1000 + image for image in images]
    expected = [
        adjusted_rand_score(truth[images], alone) if images else math.nan,
        normalized_mutual_info_score(truth[images], alone) if images else math.nan,
        pure / clustered if clustered else math.nan,
        both / len(same_cluster) if same_cluster else math.nan,
        both / len(same_identity) if same_identity else math.nan,
    ]
    counted, *figures = identity_agreement(labels, truth)
    assert counted == len(images)
    assert figures == pytest.approx(expected, nan_ok=True)


def test_agreement_of_the_truth_with_itself() -> None:
    truth = np.repeat(np.arange(100_000), 2)  # an N x N table would take 320 GB
    assert tuple(identity_agreement(truth, truth)) == pytest.approx((200_000, 1, 1, 1, 1, 1))


def test_records_hold_plain_finite_figures(clustered: Clustered) -> None:
    graph = jaccard_graph(clustered(300), k1=12, k2=4, max_distance=0.6)
    labels, _ = dbscan(graph, eps=0.6, min_samples=4)
    cameras = np.arange(300) % 5
    record = clustering_record(labels, graph=graph, previous=labels, cameras=cameras)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    sizes = cluster_sizes(labels).sizes
    assert record["cluster_size_median"] == np.median(sizes)
    assert record["cluster_size_max"] == sizes.max()
    assert record["cluster_sizes/9-16"] == ((sizes >= 9) & (sizes <= 16)).sum()
    assert record["stability"] == 1
    assert record["silhouette"] == silhouette(graph, labels)
    assert (record["cameras_per_cluster"], record["camera_entropy"]) == camera_mix(labels, cameras)


def test_records_leave_out_what_is_unknown() -> None:
    assert clustering_record([0, 0, -1]) == {
        "cluster_size_median": 2, "cluster_size_max": 2, "cluster_sizes/2": 1,
    }  # fmt: skip
    nothing = clustering_record([-1, -1], graph=csr_array((2, 2)), previous=[0, 0], cameras=[0, 1])
    assert nothing == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_sizes([0.5]), r"labels of shape \(1,\) and type float64 do not fit"),
        (lambda: cluster_sizes([[0]]), r"labels of shape \(1, 1\)"),
        (lambda: stability([0, 1], [0]), r"others of shape \(1,\).*2 integers, one per image"),
        (lambda: camera_mix([0, 1], [0]), "cameras of shape"),
        (lambda: identity_agreement([0, 1], ["a", "b"]), "identities of shape"),
        (
            lambda: silhouette(np.eye(2), [0, 1]),
            r"ndarray of shape \(2, 2\) is no square sparse matrix of the distances of 2 images",
        ),
        (lambda: silhouette(csr_array((3, 3)), [0, 1]), "is no square sparse matrix .* 2 images"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, message: str) -> None:
    with pytest.raises(ClusteringError, match=message):
        call()
