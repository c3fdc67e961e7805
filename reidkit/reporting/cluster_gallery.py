"""Pictures of clusters: the largest, and those that deserve a doubt."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.pages import Album, Thumbnail
from reidkit.reporting.groups import (
    Clusters,
    MergeSuspect,
    SplitSuspect,
    camera_entropy,
    suspected_merges,
    suspected_splits,
)
from reidkit.reporting.run import Clustering
from reidkit.reporting.training_features import Integers, Known
from reidkit.reporting.wording import count

__all__ = ["Group", "Tile", "make_groups", "make_largest", "make_noise"]

LARGEST = 12
PER_CLUSTER = 10
NOISE = 20

_OTHERS = 6
"""Clusters shown in each of the other groups."""
_PER_HALF = 6


class Tile(NamedTuple):
    """One cluster, a pair of them, or the noise, in pictures."""

    title: str
    details: list[str]
    """A few words each: size, similarity, what the identities say."""
    strips: list[list[Thumbnail]]
    """Samples of its images; two where it is a question of two."""


class Group(NamedTuple):
    """Clusters that are shown for one reason."""

    name: str
    meaning: str
    """One sentence."""
    tiles: list[Tile]
    more: str
    """How many there are beyond those shown, or empty."""


def make_largest(clustering: Clustering, album: Album) -> Group:
    """The 12 largest clusters by up to 10 images each.

    Where there are more, the images are taken at even distances from the list: neighbours in it are often consecutive
    frames.
    """
    labels, sizes = clustering.clusters
    tiles = [
        Tile(
            f"Cluster {labels[index]}",
            [count(int(sizes[index]), "image")],
            [_pictures(clustering, np.flatnonzero(clustering.labels == labels[index]), PER_CLUSTER, album)],
        )
        for index in np.argsort(-sizes, kind="stable")[:LARGEST].tolist()
    ]
    return Group("The largest clusters", "", tiles, _more(len(labels), len(tiles)))


def make_noise(clustering: Clustering, album: Album) -> Tile | None:
    """Up to 20 images without a cluster; None if there are none."""
    if not clustering.noise:
        return None
    pictures = _pictures(clustering, np.flatnonzero(clustering.labels < 0), NOISE, album)
    return Tile("Noise", [count(clustering.noise, "image")], [pictures])


def make_groups(clustering: Clustering, known: Known, album: Album) -> list[Group]:
    """The tightest, the loosest and the most mixed clusters, and those suspected of being two or a part of one."""
    clusters = Clusters(clustering, known)
    several = np.flatnonzero(clusters.sizes > 1)
    rising = several[np.argsort(clusters.cohesion[several], kind="stable")]
    entropy = camera_entropy(clusters)
    mixed = [index for index in np.argsort(-entropy, kind="stable").tolist() if entropy[index] > 0]

    def tiles(chosen: Sequence[int]) -> list[Tile]:
        return [_tile(clustering, clusters, entropy, index, album) for index in chosen[:_OTHERS]]

    merges, splits = suspected_merges(clusters, _OTHERS), suspected_splits(clusters, _OTHERS)
    groups = [
        Group("The tightest clusters", "Their images are the most alike.", tiles(rising[::-1].tolist()), ""),
        Group("The loosest clusters", "Their images are the least alike.", tiles(rising.tolist()), ""),
        Group(
            "The most mixed in cameras",
            "What clustering across cameras is for: one individual, seen from many sides.",
            tiles(mixed),
            _more(len(mixed), min(len(mixed), _OTHERS)),
        ),
        Group(
            "Suspected merges",
            "Clusters that gain most by being cut in two along their main direction: two individuals in one?",
            [_merge_tile(clustering, clusters, merge, album) for merge in merges],
            "",
        ),
        Group(
            "Suspected splits",
            "Pairs of clusters nearly as alike as the looser one's own images: one individual in two?",
            [_split_tile(clustering, clusters, split, album) for split in splits],
            "",
        ),
    ]
    return [group for group in groups if group.tiles]


def _tile(clustering: Clustering, clusters: Clusters, entropy: NDArray[np.float64], index: int, album: Album) -> Tile:
    rows = clusters.members[index]
    cameras = clusters.known.cameras[rows]
    details = [count(len(rows), "image"), f"similarity {clusters.cohesion[index]:.2f}"]
    seen = len(np.unique(cameras[cameras >= 0]))
    details += [f"{count(seen, 'camera')}, {entropy[index]:.1f} bits"] if seen else []
    details += _identities(clusters.known.identities[rows])
    return Tile(f"Cluster {clusters.labels[index]}", details, [_pictures(clustering, rows, PER_CLUSTER, album)])


def _merge_tile(clustering: Clustering, clusters: Clusters, merge: MergeSuspect, album: Album) -> Tile:
    rows = clusters.members[merge.cluster]
    details = [
        count(len(rows), "image"),
        f"similarity {merge.within:.2f} in each half, {merge.between:.2f} across",
        *_identities(clusters.known.identities[rows]),
    ]
    strips = [_pictures(clustering, half, _PER_HALF, album) for half in merge.halves]
    return Tile(f"Cluster {clusters.labels[merge.cluster]}", details, strips)


def _split_tile(clustering: Clustering, clusters: Clusters, split: SplitSuspect, album: Album) -> Tile:
    pair = [clusters.members[index] for index in (split.first, split.second)]
    first, second = (int(clusters.labels[index]) for index in (split.first, split.second))
    details = [
        f"{len(pair[0])} and {count(len(pair[1]), 'image')}",
        f"similarity {split.within:.2f} in the looser, {split.between:.2f} across",
        *_identities(clusters.known.identities[np.concatenate(pair)]),
    ]
    return Tile(
        f"Clusters {first} and {second}",
        details,
        [_pictures(clustering, rows, _PER_HALF, album) for rows in pair],
    )


def _identities(identities: Integers) -> list[str]:
    """What is known of whom the images show."""
    known = identities[identities >= 0]
    if not known.size:
        return []
    number = len(np.unique(known))
    return ["1 identity" if number == 1 else f"{number} identities"]


def _pictures(clustering: Clustering, rows: Integers, most: int, album: Album) -> list[Thumbnail]:
    chosen: Sequence[int] = rows[_evenly(len(rows), most)].tolist()
    return album.add_all([clustering.paths[index] for index in chosen])


def _evenly(number: int, most: int) -> Integers:
    """At most `most` of the positions 0 to number - 1, at even distances."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)


def _more(number: int, shown: int) -> str:
    return f"{count(number - shown, 'more cluster')} not shown" if number > shown else ""
