import base64
import sys
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from reidkit.reporting import feature_map as module
from reidkit.reporting.feature_map import TILE_HEIGHT, TILE_WIDTH, make_feature_map
from reidkit.reporting.run import Clustering, TrainingFeatures
from tests.naive import unit_vectors
from tests.reporting.folders import make_images


def _scene(folder: Path, count: int) -> tuple[Clustering, TrainingFeatures]:
    rng = np.random.default_rng(0)
    images = make_images(folder, [f"{index}.png" for index in range(5)])
    paths = [str(images[index % 5]) for index in range(count)]
    labels = rng.integers(-1, 12, count)
    unknown = np.full(count, -1, np.int64)
    return Clustering(1, labels, paths), TrainingFeatures(
        unit_vectors(rng.normal(size=(count, 6))), unknown, labels % 3
    )


def test_few_images_lie_on_their_principal_components(tmp_path: Path) -> None:
    clustering, known = _scene(tmp_path, 60)
    shown = make_feature_map(clustering, known)
    assert shown is not None
    assert shown.method == (
        "60 images; projected on their first two principal components (fewer than 200 images are too few for UMAP)."
    )
    dots = sorted(fromstring(shown.drawing).iter("circle"), key=lambda dot: int(dot.get("data-tile", "")))
    places = np.array([[float(dot.get(name, "")) for name in ("cx", "cy")] for dot in dots])
    expected = PCA(2).fit_transform(known.features)
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], expected[:, axis])[0, 1]) > 0.9999
    for dot, label, path in zip(dots, clustering.labels.tolist(), clustering.paths, strict=True):
        assert dot.get("data-cluster") == str(label)
        title = dot.find("title")
        assert title is not None
        assert (title.text or "").startswith(f"{Path(path).name} · {'noise' if label < 0 else f'cluster {label}'}")


def test_dots_belong_to_their_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PER_SHEET", 40)
    clustering, known = _scene(tmp_path, 90)
    Path(clustering.paths[0]).unlink()
    shown = make_feature_map(clustering, known)
    assert shown is not None
    sheets = [Image.open(BytesIO(base64.b64decode(sheet.split(",")[1]))) for sheet in shown.sheets]
    assert [sheet.size for sheet in sheets] == [(1000, 160), (1000, 160), (1000, 80)]
    for index, path in enumerate(clustering.paths):
        place = index % 40
        centre = (place % 25 * TILE_WIDTH + TILE_WIDTH // 2, place // 25 * TILE_HEIGHT + TILE_HEIGHT // 2)
        found = np.array(sheets[index // 40].getpixel(centre))
        expected = np.asarray(Image.open(path).convert("RGB"))[24, 12] if Path(path).exists() else np.full(3, 128)
        assert np.abs(found - expected).max() < 30


def test_large_sets_are_sampled_alike_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 100)
    scene = _scene(tmp_path, 400)
    first, second = make_feature_map(*scene), make_feature_map(*scene)
    assert first is not None
    assert first.method.startswith("100 of 400 images, drawn at random; ")
    assert first.drawing.count("<circle") == 100
    assert second == first


def test_without_umap_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    shown = make_feature_map(*_scene(tmp_path, 220))
    assert shown is not None
    assert "principal components (for UMAP, which shows neighbourhoods better, install reidkit[report])" in shown.method


def test_umap_is_used_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        class UMAP:
            def __init__(self, **options: object) -> None:
                assert options["random_state"] == 0

            def fit_transform(self, features: np.ndarray) -> np.ndarray:
                return features[:, :2]

    monkeypatch.setitem(sys.modules, "umap", Module)  # the real one loads for seconds
    shown = make_feature_map(*_scene(tmp_path, 220))
    assert shown is not None
    assert "projected by UMAP" in shown.method


def test_images_that_are_all_the_same_have_a_map(tmp_path: Path) -> None:
    clustering, known = _scene(tmp_path, 5)
    same = known._replace(features=np.ones_like(known.features))
    shown = make_feature_map(clustering, same)
    assert shown is not None
    assert "nan" not in shown.drawing
    two = Clustering(1, clustering.labels[:2], clustering.paths[:2])
    assert make_feature_map(two, known._replace(features=known.features[:2])) is None
