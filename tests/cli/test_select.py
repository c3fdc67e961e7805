"""`reidkit select` on a tiny pair of models."""

import logging
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from pyarrow import parquet

from reidkit.backbones import EmbeddingModel, create_backbone, to_supervised_layout
from reidkit.cli import cli
from reidkit.datasets import load_dataset
from reidkit.pretrain.lists import apply_list, read_list
from tests.backbones.golden_weights import fill

COMMAND = ["select", "--pretrained", "dino.pth", "--finetuned", "fine.pth", "--device", "cpu", "--precision", "32"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands work in a folder with two checkpoints; logging is left as it was found."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("reidkit")
    level = logger.level
    backbone = create_backbone("vit_tiny_ics", image_size=(32, 16), embed_dim=64, depth=1, num_heads=1)
    model = EmbeddingModel(backbone)
    fill(model)
    torch.save({"teacher": {f"backbone.{name}": value for name, value in backbone.state_dict().items()}}, "dino.pth")
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    torch.save(to_supervised_layout(model), "fine.pth")
    yield
    logger.setLevel(level)


def select(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*COMMAND, *map(str, arguments)])


def test_the_list_the_scores_and_the_pictures(people: Path, tmp_path: Path) -> None:
    done = select("--data", people, "-o", "list.txt", "--keep", "0.25")
    assert done.exit_code == 0, done.output
    dataset = load_dataset(str(people))
    count = len(dataset.train)
    kept = -(-count // 4)
    assert f"Kept {kept} of {count} images, cut at " in done.output
    assert "list list.txt   scores list.parquet   plots list-plots" in done.output
    table = parquet.read_table("list.parquet").to_pydict()
    assert table["name"] == sorted(f"bounding_box_train/{path.name}" for path in dataset.train.paths)
    by_rank = [name for _, name in sorted(zip(table["rank"], table["name"], strict=True))]
    assert read_list(Path("list.txt")) == by_rank[:kept]
    assert {path.name for path in apply_list(dataset.train, dataset.root, by_rank[:kept]).paths} == {
        Path(name).name for name in by_rank[:kept]
    }
    assert sorted(path.name for path in Path("list-plots").iterdir()) == ["highest.png", "lowest.png", "scores.html"]
    for picture in Path("list-plots").glob("*.png"):
        with Image.open(picture) as image:
            assert image.width > 600
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["dino.pth", "fine.pth", "list.txt", "list.parquet", "list-plots"]
    )


def test_the_published_layout_from_the_low_end_of_a_few_images(people: Path) -> None:
    Path("few").mkdir()
    for image in sorted((people / "bounding_box_train").iterdir())[:5]:
        shutil.copy(image, "few")
    Path("few/broken.jpg").write_bytes(b"broken")
    options = ("--direction", "low", "--keep", "2", "--scores", "s.parquet", "--plots", "p")
    done = select("--data", "few", "-o", "list.pkl", *options)
    assert done.exit_code == 0, done.output
    assert "1 of 6 images are unreadable and left out (they have no score)" in done.output
    assert "Kept 2 of 6 images" in done.output
    names = pickle.loads(Path("list.pkl").read_bytes())
    table = parquet.read_table("s.parquet").to_pydict()
    scores = {name: score for name, score in zip(table["name"], table["score"], strict=True) if score is not None}
    assert names == sorted(scores, key=lambda name: scores[name])[:2]
    assert (Path("p") / "lowest.png").is_file()
    quiet = select("--data", "few", "-o", "list.pkl", *options, "--quiet")
    assert quiet.exit_code == 0
    assert "Kept" not in quiet.output


def test_bad_input_is_told_before_any_work(people: Path) -> None:
    for arguments, words in (
        (("-o", "list.parquet"), "--output and --scores both name list.parquet"),
        (("-o", "absent/list.txt"), "absent/list.txt cannot be written"),
        (("-o", "list.txt", "--scores", "absent/s.parquet"), "absent/s.parquet cannot be written"),
        (("-o", "list.txt", "--keep", "1.5"), "keep=1.5 is neither a share in (0, 1] nor a whole number"),
        (("-o", "list.txt", "--keep", "9999"), "keep=9,999 of"),
        (("-o", "list.txt", "--finetuned", "absent.pth"), "absent.pth does not exist"),
    ):
        done = select("--data", people, *arguments)
        assert done.exit_code == 2
        assert words in " ".join(done.output.split())
        assert sorted(path.name for path in Path().iterdir()) == ["dino.pth", "fine.pth"]


@pytest.mark.slow
def test_two_processes_do_as_one(people: Path) -> None:
    assert select("--data", people, "-o", "one.txt").exit_code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "reidkit", *COMMAND]
    done = subprocess.run([*launch, "--data", people, "-o", "two.txt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Kept ") == 1
    assert Path("two.txt").read_bytes() == Path("one.txt").read_bytes()
    assert parquet.read_table("two.parquet") == parquet.read_table("one.parquet")
    assert not Path("two.txt.work").exists()
