import numpy as np
import pytest
from numpy.typing import ArrayLike

from reidkit.pages.thumbnails import Album
from reidkit.reporting.cluster_gallery import Group, make_groups, make_largest, make_noise
from reidkit.reporting.run import Clustering, TrainingFeatures
from tests.naive import unit_vectors


def _clustering(labels: ArrayLike) -> Clustering:
    """Labels of images that do not exist: the gallery is chosen all the same."""
    array = np.array(labels, dtype=np.int64)
    return Clustering(1, array, [f"/gone/{index}.jpg" for index in range(len(array))])


def _names(group: Group) -> list[str]:
    return [tile.title for tile in group.tiles]


def test_the_largest_clusters_come_first() -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(2, 22))
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(20), sizes)).tolist()
    largest = make_largest(_clustering([*labels, -1]), Album())
    expected = sorted(((-size, label) for label, size in enumerate(sizes.tolist())))[:12]
    assert [(tile.title, tile.details) for tile in largest.tiles] == [
        (f"Cluster {k}", [f"{-size} images"]) for size, k in expected
    ]
    assert [len(tile.strips[0]) for tile in largest.tiles] == [min(-size, 10) for size, _ in expected]
    for (_, label), tile in zip(expected, largest.tiles, strict=True):
        assert {labels[int(picture.name.removesuffix(".jpg"))] for picture in tile.strips[0]} == {label}
    assert largest.more == "8 more clusters not shown"


def test_equal_clusters_keep_their_order() -> None:
    clustering = _clustering([2, 2, 0, 0, 1, 1])
    assert _names(make_largest(clustering, Album())) == ["Cluster 0", "Cluster 1", "Cluster 2"]
    assert make_noise(clustering, Album()) is None


def test_images_are_taken_from_the_whole_cluster() -> None:
    clustering = _clustering([0] * 91 + [-1] * 39)
    (tile,) = make_largest(clustering, Album()).tiles
    assert [picture.name for picture in tile.strips[0]] == [f"{index}.jpg" for index in range(0, 91, 10)]
    noise = make_noise(clustering, Album())
    assert noise is not None
    assert noise.details == ["39 images"]
    assert [picture.name for picture in noise.strips[0]] == [f"{91 + index}.jpg" for index in range(0, 39, 2)]


def _scene(*, identities: bool) -> tuple[Clustering, TrainingFeatures]:
    """Cluster 0 tight; 1 loose; 2 of two people; 3 and 4 of one person, in 4 cameras; noise."""
    rng = np.random.default_rng(0)
    people = unit_vectors(rng.normal(size=(6, 64)))
    plan = [(0, 0, 0.001), (1, 1, 0.12), (2, 2, 0.02), (2, 3, 0.02), (3, 4, 0.02), (4, 4, 0.02)]
    labels = np.repeat([label for label, *_ in plan] + [-1], 8)
    who = np.repeat([person for _, person, _ in plan] + [5], 8)
    spread = np.repeat([value for *_, value in plan] + [0.1], 8)
    features = unit_vectors(people[who] + spread[:, None] * rng.normal(size=(56, 64)))
    cameras = np.where(labels >= 3, np.arange(56) % 4, 0)
    order = rng.permutation(56)
    truth = who[order] if identities else np.full(56, -1)
    return _clustering(labels[order]), TrainingFeatures(features[order], truth.astype(np.int64), cameras[order])


def test_each_group_finds_what_it_is_for() -> None:
    clustering, known = _scene(identities=True)
    groups = {group.name: group for group in make_groups(clustering, known, Album())}
    assert _names(groups["The tightest clusters"])[0] == "Cluster 0"
    assert _names(groups["The loosest clusters"])[:2] == ["Cluster 2", "Cluster 1"]
    assert sorted(_names(groups["The most mixed in cameras"])) == ["Cluster 3", "Cluster 4"]
    assert "4 cameras, 2.0 bits" in groups["The most mixed in cameras"].tiles[0].details
    merge = groups["Suspected merges"].tiles[0]
    assert merge.title == "Cluster 2"
    assert merge.details[-1] == "2 identities"
    halves = [{int(known.identities[int(picture.name[:-4])]) for picture in strip} for strip in merge.strips]
    assert sorted(map(sorted, halves)) == [[2], [3]]
    split = groups["Suspected splits"].tiles[0]
    assert (split.title, split.details[-1]) == ("Clusters 3 and 4", "1 identity")


def test_without_identities_nothing_is_said_of_them() -> None:
    groups = make_groups(*_scene(identities=False), Album())
    assert not [word for group in groups for tile in group.tiles for word in tile.details if "identit" in word]


@pytest.mark.parametrize("labels", [[-1] * 6, [0] * 6, [0, 1, 2, 3, 4, 5]])
def test_degenerate_clusterings_have_no_groups_to_speak_of(labels: list[int]) -> None:
    features = unit_vectors(np.random.default_rng(0).normal(size=(6, 4)))
    unknown = np.full(6, -1, np.int64)
    groups = make_groups(_clustering(labels), TrainingFeatures(features, unknown, unknown), Album())
    assert "The most mixed in cameras" not in {group.name for group in groups}
    assert all(group.tiles for group in groups)
