"""Slow, obvious twins of every fast path, written from the papers and not from the fast code."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN
from sklearn.metrics import average_precision_score

Array = NDArray[Any]


# ---------------------------------------------------------------------------------------------------------------------
# clustering
# ---------------------------------------------------------------------------------------------------------------------


def unit_vectors(features: ArrayLike) -> NDArray[np.float32]:
    """Features (N, D) scaled to unit length; zero stays zero."""
    x = np.asarray(features, np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(norm > 0, norm, 1)).astype(np.float32)


def nearest_neighbours(features: ArrayLike, k: int) -> NDArray[np.int64]:
    """R_k (N, min(k, N)): the point itself, then the others by falling float32 similarity, equal ones by index."""
    x = unit_vectors(features).astype(np.float64)
    similarity = (x @ x.T).astype(np.float32)
    np.fill_diagonal(similarity, np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def jaccard_distance(features: ArrayLike, k1: int, k2: int) -> NDArray[np.float32]:
    """Distances d (N, N), step by step (Zhong et al., CVPR 2017, section 3)."""
    x = unit_vectors(features)
    n = len(x)
    ranked = nearest_neighbours(features, k1)

    def reciprocal(k: int) -> list[set[int]]:
        near = [set(map(int, row[:k])) for row in ranked]
        return [{j for j in near[i] if i in near[j]} for i in range(n)]

    full, half = reciprocal(k1), reciprocal(round(k1 / 2) + 1)
    weights = np.zeros((n, n), np.float32)
    for i in range(n):
        expanded = set(full[i])
        for j in full[i]:
            if 3 * len(half[j] & full[i]) > 2 * len(half[j]):
                expanded |= half[j]
        members = sorted(expanded)
        closeness = np.exp(-(2 - 2 * (x[members] @ x[i])))
        weights[i, members] = closeness / closeness.sum()
    weights = np.stack([weights[ranked[i, :k2]].mean(axis=0) for i in range(n)])
    distance = np.empty((n, n), np.float32)
    for i in range(n):
        overlap = np.minimum(weights[i], weights).sum(axis=1)
        distance[i] = np.maximum(1 - overlap / (2 - overlap), 0)
    return distance


def camera_jaccard_distance(
    features: ArrayLike, cameras: ArrayLike, k1: tuple[int, int], k2: tuple[int, int]
) -> NDArray[np.float32]:
    """Distances d (N, N), k1 and k2 being (intra, inter) (CA-Jaccard, CVPR 2024, section 3); camera -1 is unknown."""
    x, camera = unit_vectors(features), np.asarray(cameras)
    n = len(x)
    ranked = nearest_neighbours(features, n)
    same = [[int(j) for j in ranked[i] if j == i or camera[j] == camera[i] != -1] for i in range(n)]
    other = [[int(j) for j in ranked[i] if j not in same[i]] for i in range(n)]
    weights = np.zeros((n, n), np.float32)
    for i in range(n):
        reciprocal = {j for j in same[i][: k1[0]] if i in same[j][: k1[0]]}
        reciprocal |= {j for j in other[i][: k1[1]] if i in other[j][: k1[1]]}
        members = sorted(reciprocal)
        closeness = np.exp(-(2 - 2 * (x[members] @ x[i])))
        weights[i, members] = closeness / closeness.sum()
    weights = np.stack([weights[same[i][: k2[0]] + other[i][: k2[1]]].mean(axis=0) for i in range(n)])
    distance = np.empty((n, n), np.float32)
    for i in range(n):
        overlap = np.minimum(weights[i], weights).sum(axis=1)
        distance[i] = np.maximum(1 - overlap / (2 - overlap), 0)
    return distance


def dbscan(distance: ArrayLike, eps: float, min_samples: int) -> NDArray[np.int64]:
    """Labels (N,) of DBSCAN on dense distances (N, N)."""
    model = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
    return np.asarray(model.fit_predict(np.asarray(distance)), np.int64)


def hdbscan(distance: ArrayLike, min_cluster_size: int, min_samples: int) -> NDArray[np.int64]:
    """Labels (N,) of HDBSCAN on dense distances (N, N), level by level (Campello et al., TKDD 2015, sections 3 to 5).

    A level splits a cluster into the connected components below it. Clusters are numbered by their smallest point; the
    whole set is not a cluster.
    """
    d = np.asarray(distance, np.float64)
    core = np.sort(d, axis=1)[:, min(min_samples, len(d) - 1)]  # the first of a row is the point itself
    reach = np.maximum(d, np.maximum.outer(core, core))

    def select(members: Array, birth: float) -> tuple[float, list[Array]]:
        """Stability of the best selection from a cluster born at density 1 / distance = birth, and the selection."""
        stability, whole = 0.0, members
        while True:
            block = reach[np.ix_(members, members)]
            level = linkage(block[np.triu_indices(len(members), 1)], "single")[-1, 2]
            density = 1 / level if level > 0 else np.inf
            piece = connected_components(block < level)[1]
            large = [members[piece == p] for p in range(piece.max() + 1) if (piece == p).sum() >= min_cluster_size]
            if len(large) != 1:
                break
            stability += (density - birth) * (len(members) - len(large[0]))
            members = large[0]
        stability += (density - birth) * len(members)
        parts = [select(part, density) for part in large]
        below = sum(part[0] for part in parts)
        chosen = [cluster for part in parts for cluster in part[1]]
        return (below, chosen) if below > stability or birth == 0 else (stability, [whole])

    labels = np.full(len(d), -1, np.int64)
    clusters = select(np.arange(len(d)), 0.0)[1] if len(d) > 1 else []
    for label, cluster in enumerate(sorted(clusters, key=min)):
        labels[cluster] = label
    return labels


# ---------------------------------------------------------------------------------------------------------------------
# memory
# ---------------------------------------------------------------------------------------------------------------------


def cluster_memory_step(
    centroids: Array, features: Array, labels: Array, *, temperature: float, momentum: float, update: str
) -> tuple[float, Array]:
    """Loss and next memory of one batch, one instance at a time (Cluster Contrast, sections 3.2 and 3.3)."""
    memory = np.stack([row / np.linalg.norm(row) for row in centroids])
    units = np.stack([row / np.linalg.norm(row) for row in features])
    losses = []
    for unit, label in zip(units, labels, strict=True):
        logits = memory @ unit / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    updated = memory.copy()
    if update == "mean":
        turns = list(zip(labels, units, strict=True))
    else:
        turns = []
        for label in sorted(set(labels.tolist())):
            members = [unit for unit, other in zip(units, labels, strict=True) if other == label]
            turns.append((label, min(members, key=lambda unit: float(unit @ memory[label]))))
    for label, unit in turns:
        moved = momentum * updated[label] + (1 - momentum) * unit
        updated[label] = moved / np.linalg.norm(moved)
    return float(np.mean(losses)), updated


def batch_contrast(features: Array, labels: Array, *, temperature: float) -> float:
    """Supervised contrastive loss, one anchor and one partner at a time (Khosla et al., equation 2)."""
    units = unit_vectors(features)
    losses = []
    for anchor in range(len(labels)):
        others = [image for image in range(len(labels)) if image != anchor]
        partners = [image for image in others if labels[image] == labels[anchor]]
        total = sum(np.exp(units[anchor] @ units[other] / temperature) for other in others)
        shares = [np.exp(units[anchor] @ units[partner] / temperature) / total for partner in partners]
        if shares:
            losses.append(-np.mean(np.log(shares)))
    return float(np.mean(losses)) if losses else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# evaluation
# ---------------------------------------------------------------------------------------------------------------------


def ranking(
    distances: Array, query_ids: Array, gallery_ids: Array, query_cameras: Array, gallery_cameras: Array, ranks: int
) -> tuple[float, Array]:
    """MAP and CMC of the Market-1501 protocol by full sorting and scikit-learn's average precision."""
    precisions, first_matches = [], np.zeros(ranks)
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        same_shot = (gallery_ids == identity) & (gallery_cameras == camera) & (camera >= 0)
        kept = ~same_shot & (gallery_ids != -1)
        matches = gallery_ids[kept] == identity
        if not matches.any():
            continue
        precisions.append(average_precision_score(matches, -row[kept]))
        order = np.argsort(row[kept], kind="stable")
        first = int(np.flatnonzero(matches[order])[0])
        first_matches[first:] += 1
    return float(np.mean(precisions)), first_matches / len(precisions)


def rerank(query: ArrayLike, gallery: ArrayLike, k1: int, k2: int, jaccard_weight: float) -> NDArray[np.float64]:
    """Final distances (Q, G), set by set on the square matrix (Zhong et al., CVPR 2017, sections 3.2 to 3.5)."""
    x = np.concatenate([np.asarray(query, np.float64), np.asarray(gallery, np.float64)])
    squared = ((x[:, None] - x[None, :]) ** 2).sum(2)
    scaled = squared / squared.max(axis=1, keepdims=True)
    np.fill_diagonal(squared, -np.inf)
    ranked = np.argsort(squared, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in ranked[i, : k + 1] if i in ranked[j, : k + 1]}

    weights = np.zeros_like(scaled)
    for i in range(len(x)):
        own = reciprocal(i, k1)
        members = set(own)
        for j in own:
            half = reciprocal(j, round(k1 / 2))
            if 3 * len(half & own) > 2 * len(half):
                members |= half
        index = sorted(members)
        weights[i, index] = np.exp(-scaled[i, index])
        weights[i] /= weights[i].sum()
    if k2 > 1:
        weights = np.stack([weights[ranked[i, :k2]].mean(0) for i in range(len(x))])
    queries = len(np.asarray(query))
    shared = np.minimum(weights[:queries, None], weights[None, queries:]).sum(2)
    jaccard = 1 - shared / (2 - shared)
    result: NDArray[np.float64] = jaccard_weight * jaccard + (1 - jaccard_weight) * scaled[:queries, queries:]
    return result
