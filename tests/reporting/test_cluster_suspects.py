import numpy as np
import pytest

from reidkit.reporting import cluster_suspects as module
from reidkit.reporting.cluster_suspects import Clusters, camera_entropy, suspected_merges, suspected_splits
from reidkit.reporting.run import Clustering, TrainingFeatures
from tests.naive import unit_vectors


def _clusters(seed: int, count: int = 60) -> Clusters:
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 3, 4, 7, 9], count)
    labels[0] = 20  # a cluster of one
    features = unit_vectors(rng.normal(size=(6, 5))[labels % 6] + rng.normal(size=(count, 5)))
    clustering = Clustering(1, labels, [str(index) for index in range(count)])
    return Clusters(clustering, TrainingFeatures(features, labels, rng.integers(-1, 3, count)))


@pytest.mark.parametrize("seed", range(4))
def test_members_and_cohesion_are_those_of_all_pairs(seed: int) -> None:
    clusters = _clusters(seed)
    labels = clusters.training.identities
    for index, label in enumerate(clusters.labels.tolist()):
        rows = np.flatnonzero(labels == label)
        assert clusters.members[index].tolist() == rows.tolist()
        x = clusters.training.features[rows].astype(np.float64)
        cosines = [x[i] @ x[j] for i in range(len(x)) for j in range(i)]
        np.testing.assert_allclose(clusters.cohesion[index], np.mean(cosines) if cosines else np.nan, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_entropy_of_cameras(seed: int) -> None:
    clusters = _clusters(seed)
    for rows, entropy in zip(clusters.members, camera_entropy(clusters), strict=True):
        seen = [camera for camera in clusters.training.cameras[rows].tolist() if camera >= 0]
        shares = [seen.count(camera) / len(seen) for camera in set(seen)]
        assert entropy == pytest.approx(-sum(share * np.log2(share) for share in shares), abs=1e-9)


@pytest.mark.parametrize("block", [2, 1024])
@pytest.mark.parametrize("seed", range(4))
def test_splits_are_the_nearest_pairs(seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    clusters = _clusters(seed)
    x = clusters.training.features.astype(np.float64)
    scores: dict[tuple[int, ...], float] = {}
    for a in range(len(clusters.labels)):
        for b in range(a):
            between = np.mean([x[i] @ x[j] for i in clusters.members[a] for j in clusters.members[b]])
            scores[b, a] = between - min(np.nan_to_num(clusters.cohesion[[a, b]], nan=1.0))
    found = suspected_splits(clusters, 3)
    best = max(scores, key=lambda pair: scores[pair])
    assert found[0].clusters == best
    assert [pair.between - pair.within for pair in found] == pytest.approx(
        [scores[pair.clusters] for pair in found], abs=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
def test_merges_are_judged_by_all_pairs_of_their_halves(seed: int) -> None:
    clusters = _clusters(seed)
    x = clusters.training.features.astype(np.float64)
    found = suspected_merges(clusters, 10)
    assert found
    for merge in found:
        left, right = (half.tolist() for half in merge.halves)
        assert sorted(left + right) == clusters.members[merge.clusters[0]].tolist()
        own = [x[i] @ x[j] for half in (left, right) for i in half for j in half if i != j]
        assert merge.within == pytest.approx(np.mean(own), abs=1e-6)
        assert merge.between == pytest.approx(np.mean([x[i] @ x[j] for i in left for j in right]), abs=1e-6)
    gains = [merge.within - merge.between for merge in found]
    assert gains == sorted(gains, reverse=True)


def test_of_a_giant_a_part_is_cut() -> None:
    features = unit_vectors(np.random.default_rng(0).normal(size=(2000, 3)))
    labels = np.zeros(2000, np.int64)
    clusters = Clusters(Clustering(1, labels, [""] * 2000), TrainingFeatures(features, labels, labels))
    (merge,) = suspected_merges(clusters, 3)
    assert sum(map(len, merge.halves)) == 256
