"""`reidkit evaluate` on checkpoints of other projects."""

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from reidkit.backbones import EmbeddingModel, create_backbone, to_supervised_layout, to_usl_layout
from reidkit.cli import cli
from reidkit.datasets import decode_images, load_dataset
from reidkit.evaluation import evaluate_distances
from tests import naive
from tests.backbones.golden_weights import fill
from tests.tiny import tiny_people

SIZE = (32, 16)
Feature = Callable[[EmbeddingModel, torch.Tensor], torch.Tensor]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands write into a folder of their own; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def model() -> EmbeddingModel:
    model = EmbeddingModel(create_backbone("vit_tiny_ics", image_size=SIZE, embed_dim=64, depth=1, num_heads=1))
    fill(model)
    return model.eval()


def evaluate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments), "--device", "cpu", "--precision", "32"])


def unit_features(model: EmbeddingModel, feature: Feature, paths: Sequence[Path]) -> NDArray[np.float32]:
    pixels = torch.from_numpy(decode_images(paths, SIZE, strict=True).pixels).float()
    with torch.inference_mode():
        return naive.unit_vectors(feature(model, (pixels / 255 - 0.5) / 0.5).numpy())


def expected_rows(model: EmbeddingModel, feature: Feature, folder: Path) -> list[dict[str, Any]]:
    """The plain and the re-ranked row of a data set, from the square matrices of distances."""
    dataset = load_dataset(str(folder))
    query, gallery = (unit_features(model, feature, split.paths) for split in (dataset.query, dataset.gallery))
    squared = ((query[:, None] - gallery[None]) ** 2).sum(2)
    rows = []
    for reranked, distances in ((False, squared), (True, naive.rerank(query, gallery, 20, 6, 0.7))):
        result = evaluate_distances(
            distances,
            query_ids=dataset.query.identities,
            gallery_ids=dataset.gallery.identities,
            query_cameras=dataset.query.cameras,
            gallery_cameras=dataset.gallery.cameras,
        )
        ranks = {f"rank{rank}": 100 * float(result.cmc[rank - 1]) for rank in (1, 5, 10)}
        scores = {"mAP": 100 * result.mAP, **ranks, "mINP": 100 * result.mINP}
        rows.append({"dataset": str(folder), "reranked": reranked, **scores, "checkpoint": "other.pth"})
    return rows


@pytest.mark.parametrize(
    ("layout", "feature"),
    [
        (to_supervised_layout, lambda model, images: model.backbone(images)),
        (to_usl_layout, lambda model, images: model.bottleneck(model.backbone(images))),
    ],
    ids=["supervised", "usl"],
)
def test_one_table_of_many_data_sets_also_as_json_and_csv(
    people: Path, tmp_path: Path, model: EmbeddingModel, layout: Callable[..., object], feature: Feature
) -> None:
    torch.save(layout(model), "other.pth")
    second = tiny_people(tmp_path / "second")
    for image in (second / "query").glob("*_c1*"):
        image.unlink()
    files = ("--json", "scores.json", "--csv", "scores.csv")
    done = evaluate("other.pth", "--on", people, "--on", second, "--rerank", *files)
    assert done.exit_code == 0, done.output
    expected = [*expected_rows(model, feature, people), *expected_rows(model, feature, second)]
    rows = json.loads(Path("scores.json").read_text())
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-3)
    assert rows[0]["mAP"] != rows[1]["mAP"] != rows[2]["mAP"]
    with Path("scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table == [{name: str(value) for name, value in row.items()} for row in rows]
    words = " ".join(done.output.split())
    for heading in ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP", "re-ranked"):
        assert heading in words
    assert all(f"{row['mINP']:.1f}" in words for row in rows)
    assert sorted(path.name for path in tmp_path.glob("*scores*")) == ["scores.csv", "scores.json"]


def test_without_rerank_there_is_one_row_per_data_set(people: Path, model: EmbeddingModel) -> None:
    torch.save(to_usl_layout(model), "other.pth")
    done = evaluate("other.pth", "--on", people, "--json", "scores.json")
    assert done.exit_code == 0, done.output
    assert [row["reranked"] for row in json.loads(Path("scores.json").read_text())] == [False]
    assert "re-ranked" not in done.output


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(option: str) -> None:
    done = evaluate("absent.pth", option, Path("nowhere/scores"))
    assert done.exit_code == 2
    assert "nowhere/scores cannot be written (No such file or directory)" in " ".join(done.output.split())
    assert "absent.pth" not in done.output


def test_json_and_csv_need_two_files() -> None:
    done = evaluate("absent.pth", "--json", "scores", "--csv", "scores")
    assert done.exit_code == 2
    assert "both name scores" in done.output


def test_a_failed_evaluation_leaves_no_files_behind(people: Path, model: EmbeddingModel) -> None:
    torch.save(to_usl_layout(model), "other.pth")
    Path("scores.json").write_text("[]")
    done = evaluate("other.pth", "--on", people, "--on", "zebra", "--json", "scores.json", "--csv", "scores.csv")
    assert done.exit_code == 2
    assert "unknown data set 'zebra'" in done.output
    assert Path("scores.json").read_text() == "[]"
    assert not Path("scores.csv").exists()
    assert not list(Path().glob("*.tmp"))


def test_a_set_without_query_is_told_so(people: Path, model: EmbeddingModel) -> None:
    torch.save(to_usl_layout(model), "other.pth")
    shutil.copytree(people / "bounding_box_train", "photos")
    done = evaluate("other.pth", "--on", "photos")
    assert done.exit_code == 2
    assert "photos (photos) has no query images, which are needed here" in done.output
