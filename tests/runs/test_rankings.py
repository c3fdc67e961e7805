from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from reidkit.datasets import Split
from reidkit.errors import RunError
from reidkit.evaluation import evaluate_ranking
from reidkit.runs import RunFolder
from reidkit.runs.rankings import RANKINGS, read_rankings, save_rankings
from tests.naive import unit_vectors

Floats = NDArray[np.float32]
Scene = tuple[Floats, Floats, Split, Split]


def scene(seed: int, queries: int = 60, images: int = 90, identities: int = 25, cameras: int = 3) -> Scene:
    """Features that tell identities apart, more or less; distractors 0, junk -1, a few unknown cameras."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(identities + 3, 8))

    def split(name: str, count: int, lowest: int) -> tuple[NDArray[np.float32], Split]:
        people = rng.integers(lowest, identities + 1, count)
        features = unit_vectors(centres[people + 1] + rng.normal(size=(count, 8)))
        paths = tuple(Path(f"/data/{name}/{index}.jpg") for index in range(count))
        return features, Split(paths, people, rng.integers(-1, cameras, count))

    (query_features, query), (gallery_features, gallery) = split("query", queries, 1), split("gallery", images, -1)
    return query_features, gallery_features, query, gallery


def kept_of(row: int, query: Split, gallery: Split) -> NDArray[np.int64]:
    """Gallery rows that enter a query's ranking, by the protocol's words."""
    return np.array(
        [
            image
            for image in range(len(gallery))
            if gallery.identities[image] != -1
            and not (
                gallery.identities[image] == query.identities[row]
                and gallery.cameras[image] == query.cameras[row] != -1
            )
        ],
        np.int64,
    )


def save(folder: Path, queries: Floats, images: Floats, query: Split, gallery: Split) -> float:
    """Evaluate and write the rank lists; return the mAP."""
    result = evaluate_ranking(
        queries,
        images,
        query_ids=query.identities,
        gallery_ids=gallery.identities,
        query_cameras=query.cameras,
        gallery_cameras=gallery.cameras,
    )
    save_rankings(RunFolder(folder), result.average_precisions, queries, images, query, gallery)
    return result.mAP


@pytest.mark.parametrize("seed", range(3))
def test_every_query_is_scored_as_scikit_learn_does(tmp_path: Path, seed: int) -> None:
    query_features, gallery_features, query, gallery = given = scene(seed)
    whole = save(tmp_path, *given)
    found = read_rankings(tmp_path)
    assert found is not None
    assert len(found.average_precisions) == len(query)
    similarity = query_features @ gallery_features.T
    for row, precision in enumerate(found.average_precisions):
        kept = kept_of(row, query, gallery)
        right = gallery.identities[kept] == query.identities[row]
        expected = average_precision_score(right, similarity[row, kept]) if right.any() else np.nan
        np.testing.assert_allclose(precision, expected, atol=1e-6)
    assert np.nanmean(found.average_precisions) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_lists_are_the_first_places(tmp_path: Path, seed: int) -> None:
    query_features, gallery_features, query, gallery = given = scene(seed)
    save(tmp_path, *given)
    found = read_rankings(tmp_path)
    assert found is not None
    assert len(found.lists) == 36
    for entry in found.lists:
        kept = kept_of(entry.query, query, gallery)
        similarity = gallery_features[kept] @ query_features[entry.query]
        order = np.argsort(-similarity, kind="stable")[:10]
        assert entry.rows == kept[order].tolist()
        np.testing.assert_allclose(entry.scores, similarity[order], atol=1e-6)
        assert entry.right == (gallery.identities[kept[order]] == query.identities[entry.query]).tolist()
        assert entry.path == query.paths[entry.query]
        assert entry.paths == [gallery.paths[row] for row in entry.rows]
        assert entry.average_precision == found.average_precisions[entry.query]


def test_best_median_and_worst_are_what_they_say(tmp_path: Path) -> None:
    save(tmp_path, *scene(5, queries=300, identities=200, images=900))
    found = read_rankings(tmp_path)
    assert found is not None
    best, median, worst = (
        [entry.average_precision for entry in found.lists if entry.kind == kind] for kind in ("best", "median", "worst")
    )
    assert len(best) == len(median) == len(worst) == 12
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert min(best) > np.nanquantile(found.average_precisions, 0.9)
    assert max(worst) < np.nanquantile(found.average_precisions, 0.1)
    assert np.abs(np.array(median) - np.nanmedian(found.average_precisions)).max() < 0.1
    assert len({entry.query for entry in found.lists}) == 36


def test_identities_take_turns(tmp_path: Path) -> None:
    """All queries are perfect: the best are not twelve pictures of one person."""
    people = np.repeat(np.arange(1, 21), 5)
    features = np.eye(20, dtype=np.float32)[people - 1]
    split = Split(tuple(Path(f"/{index}.jpg") for index in range(100)), people, np.full(100, -1))
    save(tmp_path, features, features, split, split)
    found = read_rankings(tmp_path)
    assert found is not None
    best = [int(people[entry.query]) for entry in found.lists if entry.kind == "best"]
    assert len(set(best)) == 12


def test_few_queries_and_short_galleries(tmp_path: Path) -> None:
    features = np.eye(3, dtype=np.float32)
    query = Split(tuple(Path(f"/q{k}.jpg") for k in range(3)), np.array([1, 2, 9]), np.array([0, 0, 0]))
    gallery = Split(tuple(Path(f"/g{k}.jpg") for k in range(3)), np.array([1, 2, 1]), np.array([1, 0, 0]))
    save(tmp_path, features, features, query, gallery)
    found = read_rankings(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found.average_precisions, [1, np.nan, np.nan])
    (entry,) = found.lists
    assert (entry.kind, entry.query, entry.rows, entry.right) == ("best", 0, [0, 1], [True, False])


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """11,659 average precisions, 36 lists, paths of 250 characters."""
    rng = np.random.default_rng(0)
    people = rng.integers(1, 3000, 3000)
    paths = tuple(Path("/" + "".join(rng.choice(list("abcdefgh"), 249))) for _ in range(3000))
    split = Split(paths, people, np.full(3000, -1))
    features = unit_vectors(rng.normal(size=(3000, 4)))
    save(tmp_path, features, features, split, split)
    assert (tmp_path / RANKINGS).stat().st_size < 200_000


def test_no_file_is_no_error_and_a_damaged_one_is(tmp_path: Path) -> None:
    assert read_rankings(tmp_path) is None
    (tmp_path / RANKINGS).write_bytes(b"PK\x05\x06 nothing")
    with pytest.raises(RunError, match="is damaged"):
        read_rankings(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queries", np.full(36, 10**6)),
        ("kinds", np.full(36, "odd")),
        ("scores", np.zeros((36, 3), np.float32)),
        ("rows", np.zeros(3, np.int64)),
        ("query_paths", np.zeros(36)),
    ],
)
def test_what_does_not_fit_is_damaged(tmp_path: Path, name: str, value: NDArray[np.generic]) -> None:
    save(tmp_path, *scene(1))
    with np.load(tmp_path / RANKINGS) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / RANKINGS, **(arrays | {name: value}))
    with pytest.raises(RunError, match="is damaged"):
        read_rankings(tmp_path)
