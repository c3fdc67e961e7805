"""Slow, obvious twins of every fast path, written from the papers and never from the fast code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Array = NDArray[Any]


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
