"""Quality of a clustering: sizes, silhouette, stability, mixture of cameras, and agreement with identities.

Everything costs O(N) or O(edges of the graph): contingency tables are sparse and no N x N array is made.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from reidkit.clustering.parallel import kernel, map_rows, open_resources
from reidkit.clustering.sparse_rows import Rows, graph_rows
from reidkit.errors import ClusteringError

__all__ = [
    "Agreement",
    "CameraMix",
    "ClusterSizes",
    "ClusteringQuality",
    "SizeBin",
    "camera_mix",
    "cluster_sizes",
    "clustering_quality",
    "clustering_record",
    "identity_agreement",
    "silhouette",
    "size_histogram",
    "stability",
]

Integers = NDArray[np.int64]


class ClusterSizes(NamedTuple):
    """Numbers of images."""

    images: int
    """N, noise included."""
    noise: int
    """Images without a cluster."""
    sizes: Integers
    """(C,) images of each cluster, by rising label."""


class SizeBin(NamedTuple):
    """One bar of a histogram of cluster sizes."""

    smallest: int
    """Fewest images of a cluster in this bin."""
    largest: int
    """Most images of a cluster in this bin."""
    clusters: int
    """Number of clusters of these sizes."""


class CameraMix(NamedTuple):
    """Mixture of cameras in clusters; both values are NaN where no clustered image has a known camera."""

    cameras_per_cluster: float
    """Mean number of cameras in a cluster, at least 1."""
    entropy: float
    """Mean over clusters of the entropy of their cameras: 0 is one camera each, 1 is all cameras in equal shares."""


class Agreement(NamedTuple):
    """Agreement of clusters with known identities; NaN where a metric has nothing to count.

    A noise image counts as a cluster of one, except in the purity, which is about clustered images only.
    """

    images: int
    """Images of known identity; all others are left out."""
    ari: float
    """Adjusted Rand index: 1 is identical, about 0 is chance."""
    nmi: float
    """Mutual information over the mean of both entropies, in [0, 1]."""
    purity: float
    """Share of clustered images that are of the most frequent identity of their cluster."""
    precision: float
    """Share of the pairs in one cluster that are of one identity."""
    recall: float
    """Share of the pairs of one identity that are in one cluster."""


class ClusteringQuality(NamedTuple):
    """Metrics of one clustering; None where the data for it was not given."""

    sizes: ClusterSizes
    silhouette: float | None
    """As `silhouette`; None without a graph or without clusters."""
    cameras: CameraMix | None
    agreement: Agreement | None


class _Partition(NamedTuple):
    """Clusters in the form that kernels read."""

    labels: Integers  # (N,), 0..C-1, -1 is noise
    sizes: Integers  # (C,)


def cluster_sizes(labels: ArrayLike) -> ClusterSizes:
    """Count clusters, their images and the noise.

    Args:
        labels: (N,) integers, negative is noise.

    Raises:
        ClusteringError: Labels that are not integers in one dimension.
    """
    given = _integers("labels", labels)
    sizes = np.unique(given[given >= 0], return_counts=True)[1].astype(np.int64)
    return ClusterSizes(len(given), int((given < 0).sum()), sizes)


def size_histogram(sizes: Integers) -> list[SizeBin]:
    """Histogram of cluster sizes (C,) in bins that double: 1, 2, 3 to 4, 5 to 8, ... images; none without clusters.

    It runs from the smallest cluster's bin to the largest one's; bins between them may be empty.
    """
    if not len(sizes):
        return []
    exponents = np.array([(int(size) - 1).bit_length() for size in sizes])
    first = int(exponents.min())
    return [
        SizeBin(2 ** (exponent - 1) + 1 if exponent else 1, 2**exponent, clusters)
        for exponent, clusters in enumerate(np.bincount(exponents).tolist()[first:], start=first)
    ]


def silhouette(graph: Any, labels: ArrayLike, *, threads: int | None = None) -> float:
    """Mean silhouette of the clustered images on a sparse graph of distances; O(edges).

    With a_i the mean distance of image i to the others of its cluster and b_i the smallest mean distance to another
    cluster, s_i = (b_i - a_i) / max(a_i, b_i), and 0 in a cluster of one. A pair that the graph does not hold counts as
    distance 1, so silhouettes compare between clusterings on graphs of the same `max_distance`. Noise is left out.

    Source: Rousseeuw, "Silhouettes" (J. Comput. Appl. Math. 20, 1987).

    Args:
        graph: (N, N) sparse distances in [0, 1], such as `jaccard_graph` returns; the diagonal does not count.
        labels: (N,) clusters, negative is noise.
        threads: Threads; None takes every core. The result is the same.

    Returns:
        A value in [-1, 1]; higher is better. NaN with fewer than two clusters.

    Raises:
        ClusteringError: The graph does not fit the labels.
    """
    given = _integers("labels", labels)
    rows = graph_rows(graph, len(given), largest=1)
    clustered = given >= 0
    _, inverse, sizes = np.unique(given[clustered], return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return math.nan
    dense = np.full(len(given), -1, np.int64)
    dense[clustered] = inverse
    values = np.zeros(len(given))
    fill = partial(fill_silhouettes, rows, _Partition(dense, sizes.astype(np.int64)), values)
    with open_resources(threads) as resources:
        map_rows(resources.pool, fill, len(given))
    return float(values[clustered].mean())


@kernel
def fill_silhouettes(rows: Rows, clusters: _Partition, values: NDArray[np.float64], start: int, stop: int) -> None:
    """values_i <- (b_i - a_i) / max(a_i, b_i) of the clustered points i in [start, stop); 0 for all others.

    The mean distance to cluster c is 1 - sum over stored j in c of (1 - d_ij) / |c|. Allocates C floats and C integers.
    """
    closeness = np.zeros(clusters.sizes.size)
    met = np.empty(clusters.sizes.size, np.int64)
    for i in range(start, stop):
        own = clusters.labels[i]
        if own < 0:
            continue
        count = 0
        for p in range(rows.indptr[i], rows.indptr[i + 1]):
            other = clusters.labels[rows.indices[p]]
            if other >= 0 and rows.indices[p] != i and rows.weights[p] < 1:
                if closeness[other] == 0:
                    met[count] = other
                    count += 1
                closeness[other] += 1 - np.float64(rows.weights[p])
        within = 1 - closeness[own] / max(clusters.sizes[own] - 1, 1)
        nearest = 1.0
        for other in met[:count]:
            if other != own:
                nearest = min(nearest, 1 - closeness[other] / clusters.sizes[other])
            closeness[other] = 0
        if clusters.sizes[own] > 1 and max(within, nearest) > 0:
            values[i] = (nearest - within) / max(within, nearest)


def stability(labels: ArrayLike, others: ArrayLike) -> float:
    """Adjusted Rand index of two clusterings of the same images, over those that are clustered in both.

    Args:
        labels: (N,) clusters, negative is noise.
        others: (N,) clusters of the same images, of the epoch before say.

    Returns:
        1 for the same partition, about 0 for unrelated ones; NaN where no image is clustered in both.

    Raises:
        ClusteringError: The two are not of the same length.
    """
    first = _integers("labels", labels)
    second = _integers("others", others, len(first))
    both = (first >= 0) & (second >= 0)
    return float(adjusted_rand_score(second[both], first[both])) if both.any() else math.nan


def camera_mix(labels: ArrayLike, cameras: ArrayLike) -> CameraMix:
    """Number and evenness of the cameras in each cluster, averaged over clusters.

    Images of unknown camera, and clusters of none but such, are left out. The entropy is relative to that of all known
    cameras in equal shares; with a single camera it is 0.

    Args:
        labels: (N,) clusters, negative is noise.
        cameras: (N,) cameras, negative is unknown.

    Raises:
        ClusteringError: The two are not of the same length.
    """
    clusters = _integers("labels", labels)
    seen_by = _integers("cameras", cameras, len(clusters))
    known = (clusters >= 0) & (seen_by >= 0)
    if not known.any():
        return CameraMix(math.nan, math.nan)
    table = _contingency(clusters[known], seen_by[known])
    total = len(np.unique(seen_by[seen_by >= 0]))
    row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    share = table.data / table.sum(axis=1)[row]
    entropy = -np.bincount(row, share * np.log(share)) / max(math.log(total), 1e-9)
    # Adding zero makes 0 of the -0 of a single camera.
    return CameraMix(float(np.diff(table.indptr).mean()), float(entropy.mean()) + 0.0)


def identity_agreement(labels: ArrayLike, identities: ArrayLike) -> Agreement:
    """Compare clusters with known identities.

    Args:
        labels: (N,) clusters, negative is noise.
        identities: (N,) identities, negative is unknown.

    Raises:
        ClusteringError: The two are not of the same length.
    """
    clusters = _integers("labels", labels)
    truth = _integers("identities", identities, len(clusters))
    known = truth >= 0
    clusters, truth = clusters[known], truth[known]
    if not len(truth):
        return Agreement(0, *[math.nan] * 5)
    clustered = clusters >= 0
    alone = clusters.max() + 1 + np.arange(len(clusters))
    pieces = np.where(clustered, clusters, alone)
    (_, false_pairs), (missed_pairs, true_pairs) = pair_confusion_matrix(truth, pieces).tolist()
    pure = _contingency(truth[clustered], clusters[clustered]).max(axis=0).sum() if clustered.any() else 0
    return Agreement(
        images=len(truth),
        ari=float(adjusted_rand_score(truth, pieces)),
        nmi=float(normalized_mutual_info_score(truth, pieces)),
        purity=_share(int(pure), int(clustered.sum())),
        precision=_share(true_pairs, true_pairs + false_pairs),
        recall=_share(true_pairs, true_pairs + missed_pairs),
    )


def clustering_quality(
    labels: ArrayLike,
    *,
    graph: Any = None,
    cameras: ArrayLike | None = None,
    identities: ArrayLike | None = None,
    threads: int | None = None,
) -> ClusteringQuality:
    """Compute all metrics of one clustering for which there is data.

    Args:
        labels: (N,) clusters, negative is noise.
        graph: (N, N) distances on which they were found.
        cameras: (N,) cameras, negative is unknown.
        identities: (N,) identities, negative is unknown.
        threads: Threads; None takes every core. The result is the same.

    Raises:
        ClusteringError: Arrays that do not fit together.
    """
    sizes = cluster_sizes(labels)
    return ClusteringQuality(
        sizes,
        None if graph is None or not len(sizes.sizes) else silhouette(graph, labels, threads=threads),
        None if cameras is None else camera_mix(labels, cameras),
        None if identities is None else identity_agreement(labels, identities),
    )


def clustering_record(
    labels: ArrayLike,
    *,
    graph: Any = None,
    previous: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    threads: int | None = None,
) -> dict[str, float]:
    """Metrics of one clustering by name, for a line of metrics.jsonl; those that cannot be computed are left out.

    Args:
        labels: (N,) clusters, negative is noise.
        graph: (N, N) distances on which they were found; without it there is no silhouette.
        previous: (N,) clusters of the same images in the epoch before; without them there is no stability.
        cameras: (N,) cameras, negative is unknown; without them there is no camera mix.
        threads: Threads; None takes every core. The result is the same.

    Returns:
        `cluster_size_median` and `cluster_size_max`, images; `cluster_sizes/3-4` and the like, clusters of 3 to 4
        images; `silhouette`; `stability`; `cameras_per_cluster` and `camera_entropy`. All values are finite.

    Raises:
        ClusteringError: Arrays that do not fit together.
    """
    quality = clustering_quality(labels, graph=graph, cameras=cameras, threads=threads)
    sizes = quality.sizes.sizes
    metrics: dict[str, float] = {}
    if len(sizes):
        metrics |= {"cluster_size_median": float(np.median(sizes)), "cluster_size_max": int(sizes.max())}
    for smallest, largest, clusters in size_histogram(sizes):
        metrics[f"cluster_sizes/{smallest}" + (f"-{largest}" if largest > smallest else "")] = clusters
    if quality.silhouette is not None:
        metrics["silhouette"] = quality.silhouette
    if previous is not None:
        metrics["stability"] = stability(labels, previous)
    if quality.cameras is not None:
        mix = quality.cameras
        metrics |= {"cameras_per_cluster": mix.cameras_per_cluster, "camera_entropy": mix.entropy}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _integers(name: str, values: ArrayLike, length: int | None = None) -> Integers:
    given = np.asarray(values)
    if given.ndim != 1 or given.dtype.kind not in "iu" or (length is not None and len(given) != length):
        wanted = "integers in one dimension" if length is None else f"{length:,} integers, one per image"
        raise ClusteringError(f"{name} of shape {given.shape} and type {given.dtype} do not fit; pass {wanted}")
    return given.astype(np.int64, copy=False)


def _contingency(first: Integers, second: Integers) -> "csr_array[np.int64, tuple[int, int]]":
    """How often each value of the first meets each value of the second, sparse."""
    return csr_array(contingency_matrix(first, second, sparse=True, dtype=np.int64))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
