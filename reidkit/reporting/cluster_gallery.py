"""Pictures of clusters: the largest, and those that need a check."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reidkit.pages import Album, Thumbnail
from reidkit.reporting.cluster_suspects import Clusters, Suspect, camera_entropy, suspected_merges, suspected_splits
from reidkit.reporting.run import Clustering, Integers, TrainingFeatures
from reidkit.reporting.wording import count

__all__ = ["Group", "Tile", "make_groups", "make_largest", "make_noise"]

LARGEST = 12
PER_CLUSTER = 10
NOISE = 20

_OTHERS = 6
"""Clusters shown in each of the other groups."""
_PER_HALF = 6


class Tile(NamedTuple):
    """Pictures of one cluster, of a pair of them, or of the noise."""

    title: str
    details: list[str]
    """A few words each: size, similarity, number of identities."""
    strips: list[list[Thumbnail]]
    """Samples of its images; two strips for a suspect."""


class Group(NamedTuple):
    """Clusters that are shown for one reason."""

    name: str
    meaning: str
    """One sentence."""
    tiles: list[Tile]
    more: str = ""
    """How many there are beyond those shown, or empty."""


def make_largest(clustering: Clustering, album: Album) -> Group:
    """Show the 12 largest clusters by up to 10 images each.

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
    return Group("The largest clusters", "", tiles, _more(len(labels), LARGEST))


def make_noise(clustering: Clustering, album: Album) -> Tile | None:
    """Show up to 20 images without a cluster; None if there are none."""
    if not clustering.noise:
        return None
    pictures = _pictures(clustering, np.flatnonzero(clustering.labels < 0), NOISE, album)
    return Tile("Noise", [count(clustering.noise, "image")], [pictures])


def make_groups(clustering: Clustering, training: TrainingFeatures, album: Album) -> list[Group]:
    """Show the tightest, loosest and most mixed clusters, and those suspected of being two or a part of one."""
    clusters = Clusters(clustering, training)
    several = np.flatnonzero(clusters.sizes > 1)
    rising = several[np.argsort(clusters.cohesion[several], kind="stable")].tolist()
    entropy = camera_entropy(clusters)
    mixed = [index for index in np.argsort(-entropy, kind="stable").tolist() if entropy[index] > 0]

    def tiles(chosen: Sequence[int]) -> list[Tile]:
        return [_cluster_tile(clusters, index, entropy[index], album) for index in chosen[:_OTHERS]]

    groups = [
        Group("The tightest clusters", "Their images are the most alike.", tiles(rising[::-1])),
        Group("The loosest clusters", "Their images are the least alike.", tiles(rising)),
        Group(
            "The most mixed in cameras",
            "What clustering across cameras is for: one individual, seen from many sides.",
            tiles(mixed),
            _more(len(mixed), _OTHERS),
        ),
        Group(
            "Suspected merges",
            "Clusters that gain most by being cut in two along their main direction: two individuals in one?",
            [_suspect_tile(clusters, suspect, album) for suspect in suspected_merges(clusters, _OTHERS)],
        ),
        Group(
            "Suspected splits",
            "Pairs of clusters nearly as alike as the looser one's own images: one individual in two?",
            [_suspect_tile(clusters, suspect, album) for suspect in suspected_splits(clusters, _OTHERS)],
        ),
    ]
    return [group for group in groups if group.tiles]


def _cluster_tile(clusters: Clusters, index: int, entropy: float, album: Album) -> Tile:
    rows = clusters.members[index]
    cameras = clusters.training.cameras[rows]
    seen = len(np.unique(cameras[cameras >= 0]))
    details = [count(len(rows), "image"), f"similarity {clusters.cohesion[index]:.2f}"]
    details += [f"{count(seen, 'camera')}, {entropy:.1f} bits"] if seen else []
    pictures = _pictures(clusters.clustering, rows, PER_CLUSTER, album)
    return Tile(f"Cluster {clusters.labels[index]}", details + _identities(clusters, rows), [pictures])


def _suspect_tile(clusters: Clusters, suspect: Suspect, album: Album) -> Tile:
    labels = [str(clusters.labels[index]) for index in suspect.clusters]
    sizes = [len(clusters.members[index]) for index in suspect.clusters]
    where = "in each half" if len(labels) == 1 else "in the looser"
    details = [
        "".join(f"{size} and " for size in sizes[:-1]) + count(sizes[-1], "image"),
        f"similarity {suspect.within:.2f} {where}, {suspect.between:.2f} across",
        *_identities(clusters, np.concatenate([clusters.members[index] for index in suspect.clusters])),
    ]
    strips = [_pictures(clusters.clustering, half, _PER_HALF, album) for half in suspect.halves]
    return Tile(f"Cluster{'s' * (len(labels) - 1)} {' and '.join(labels)}", details, strips)


def _identities(clusters: Clusters, rows: Integers) -> list[str]:
    """How many known identities images have, in words; nothing where none is known."""
    identities = clusters.training.identities[rows]
    number = len(np.unique(identities[identities >= 0]))
    return [f"{number} identit{'y' if number == 1 else 'ies'}"] if number else []


def _pictures(clustering: Clustering, rows: Integers, most: int, album: Album) -> list[Thumbnail]:
    """At most `most` of the images, at even distances."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64)]
    return album.add_all([clustering.paths[row] for row in chosen.tolist()])


def _more(number: int, shown: int) -> str:
    return f"{count(number - shown, 'more cluster')} not shown" if number > shown else ""
