"""Ranked matches."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from reidkit.errors import DataError
from reidkit.inference import Calibration, Embedder, GalleryIndex, search_gallery
from tests import naive
from tests.inference.conftest import NAMES, draw_images


def test_equal_images_are_ranked_by_row(tmp_path: Path) -> None:
    """Ranking in float64, whatever the neighbour search rounds."""
    rng = np.random.default_rng(0)
    gallery = naive.unit_vectors(rng.standard_normal((50, 8)).astype(np.float32)).astype(np.float32)
    gallery[30] = gallery[10]
    paths = [tmp_path / str(number) for number in range(50)]
    index = cast(GalleryIndex, SimpleNamespace(features=lambda: gallery, paths=lambda: paths))
    queries = gallery[[10, 20]]
    found = search_gallery(index, queries, [tmp_path / "a", tmp_path / "b"], top=12)
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :12]
    assert [[int(match.path.name) for match in ranked] for ranked in found] == expected.tolist()
    assert [match.path.name for match in found[0][:2]] == ["10", "30"]
    cosines = [[match.cosine for match in ranked] for ranked in found]
    np.testing.assert_allclose(cosines, np.take_along_axis(exact, expected, 1), atol=1e-12)


def test_matches_of_a_gallery(embedder: Embedder, tmp_path: Path) -> None:
    images = draw_images(tmp_path / "gallery", [*NAMES, *(f"{number}.png" for number in range(8))])
    index = GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery")
    index.update()
    outside = draw_images(tmp_path / "queries", ["q.png"], seed=7)[0]
    queries = [outside, images[0]]
    features = embedder.embed(queries)
    calibration = Calibration(np.array([-1.0, 1.0]), np.array([0.2, 0.8]), 1, 1)
    found = search_gallery(index, features, queries, top=5, calibration=calibration)
    cosines = features @ index.features().T
    for row, matches in enumerate(found):
        expected = [index.paths()[image] for image in np.argsort(-cosines[row])]
        assert [match.path for match in matches] == [path for path in expected if path != queries[row]][:5]
        for match in matches:
            assert match.cosine == pytest.approx(cosines[row, index.paths().index(match.path)], abs=1e-6)
            assert match.probability == pytest.approx(0.5 + 0.3 * match.cosine)
            assert match.distance is None
    assert images[0] not in {match.path for match in found[1]}
    everything = search_gallery(index, features, queries, top=100)
    assert [len(matches) for matches in everything] == [14, 13]
    with pytest.raises(DataError, match="top=0"):
        search_gallery(index, features, queries, top=0)


def test_re_ranking_is_that_of_the_paper(embedder: Embedder, tmp_path: Path) -> None:
    draw_images(tmp_path / "gallery", [f"{number}.png" for number in range(30)])
    index = GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery")
    index.update()
    query = draw_images(tmp_path / "queries", ["q.png"], seed=7)
    features = embedder.embed(query)
    found = search_gallery(index, features, query, top=30, rerank=True)[0]
    expected = naive.rerank(features, index.features(), 20, 6, 0.7)[0]
    paths = index.paths()
    distances = [float(match.distance or 0) for match in found]
    np.testing.assert_allclose(distances, [expected[paths.index(match.path)] for match in found], atol=1e-5)
    assert distances == sorted(distances)
    cosines = index.features() @ features[0]
    np.testing.assert_allclose([m.cosine for m in found], [cosines[paths.index(m.path)] for m in found], atol=1e-6)
