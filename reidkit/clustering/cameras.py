"""Nearest neighbours by camera: the images of the same camera and those of the others, ranked apart.

Images of one camera look alike whoever is on them, so they crowd the other cameras' images of a person out of the
nearest neighbours. CA-Jaccard (Chen et al., "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification",
CVPR 2024, section 3) ranks the two kinds apart.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.clustering.candidates import SearchTask
from reidkit.clustering.libraries import check_backend
from reidkit.clustering.neighbours import search
from reidkit.clustering.parallel import Resources
from reidkit.distributed import ALONE
from reidkit.errors import ClusteringError

__all__ = ["camera_groups", "camera_neighbours"]


def camera_groups(cameras: Any, n: int) -> NDArray[np.int32]:
    """Check cameras, and number them so that images of equal numbers are known to share a camera.

    Unknown cameras (-1) cannot be compared, so every such image counts as a camera with one image.

    Args:
        cameras: (N,) 0-based camera of each feature; -1 is unknown.
        n: Features, N.

    Returns:
        (N,) numbers from 0.

    Raises:
        ClusteringError: Another shape, other numbers than integers, or one below -1.
    """
    given = np.asarray(cameras)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ClusteringError(
            f"cameras of shape {given.shape} and type {given.dtype} do not fit {n:,} features; pass one integer for "
            "each feature, -1 where the camera is unknown"
        )
    if given.min() < -1:
        raise ClusteringError(f"camera {given.min()} is not a number from 0, nor -1 (unknown); renumber the cameras")
    known, groups = np.unique(given, return_inverse=True)
    unknown = given == -1
    groups[unknown] = len(known) + np.arange(np.count_nonzero(unknown))
    return groups.astype(np.int32)


def camera_neighbours(
    points: NDArray[np.float32], groups: NDArray[np.int32], k_intra: int, k_inter: int, resources: Resources
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the exact nearest neighbours of every point in its own group, and among all other groups.

    Order and ties are those of `nearest_neighbours`. A list ends, and -1 follows, where there are no more points of its
    kind: no list borrows from the other.

    Args:
        points: (N, D) unit vectors.
        groups: (N,) numbers from `camera_groups`.
        k_intra: Neighbours of the same group, the point itself included and first.
        k_inter: Neighbours of the other groups.
        resources: Library ("auto" or "torch"), device, threads and processes.

    Returns:
        (N, min(k_intra, N)) and (N, min(k_inter, N - 1)) indices, -1 where there is none.

    Raises:
        ClusteringError: An unknown backend, or one that cannot leave out points.
    """
    check_backend(resources, groups)
    n, processes = len(points), resources.processes
    intra = np.full((n, min(k_intra, n)), -1, np.int32)
    intra[:, 0] = np.arange(n)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(starts, append=n)
    shared = np.flatnonzero(sizes > 1)  # an image that is alone in its group is its own list already
    for camera in shared[processes.rank :: processes.size]:
        members = order[starts[camera] : starts[camera] + sizes[camera]]
        alone = resources._replace(processes=ALONE, backend="torch")
        found = members[search(SearchTask(points[members], k_intra), alone, log=False)]
        intra[members, : found.shape[1]] = found
    inter = search(SearchTask(points, k_inter + 1, groups=groups), resources)[:, 1:]
    return processes.all_reduce(intra, "max"), inter
