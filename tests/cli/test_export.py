"""`reidkit export` as a user types it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from click.testing import CliRunner, Result

from reidkit.backbones import EmbeddingModel, create_backbone, to_usl_layout
from reidkit.cli import cli
from reidkit.cli.export import FORMATS
from reidkit.export import Format
from reidkit.loop import load_model


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands write into a folder of their own, find no cached data, and leave logging as it was found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)
    assert not logger.handlers


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A USL run of another project."""
    model = EmbeddingModel(create_backbone("vit_tiny_ics", image_size=(32, 16), embed_dim=64, depth=1, num_heads=1))
    torch.save(to_usl_layout(model), tmp_path / "model_best.pth.tar")
    return tmp_path / "model_best.pth.tar"


def test_formats_are_those_of_the_library() -> None:
    assert get_args(Format) == FORMATS


@pytest.mark.parametrize(
    ("file_format", "name"), [("torchscript", "model_best.pt"), ("safetensors", "model_best.safetensors")]
)
def test_what_was_written_and_how_well_it_agrees(checkpoint: Path, people: Path, file_format: str, name: str) -> None:
    done = export(checkpoint, "--format", file_format, "--verify", people)
    assert done.exit_code == 0, done.output
    assert "verified on 16 random and 16 real images in batches of 1, 5, 16: largest difference " in done.output
    for words in ("image_size [32, 16]", "retrieval after_neck", "[0, 1]", f"{file_format} {name} ("):
        assert words in done.output
    assert Path(name).stat().st_size > 10_000


def test_the_output_can_be_named_and_read_back(checkpoint: Path) -> None:
    done = export(checkpoint, "--format", "transreid-ssl", "-o", "ours.pth", "--no-cameras")
    assert done.exit_code == 0, done.output
    assert "verified on 16 random and 0 real images" in done.output
    own, read = (load_model(path).model.state_dict() for path in (checkpoint, Path("ours.pth")))
    assert all(torch.equal(read[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onnx", "-o", "model.pt"], "files of format onnx end in .onnx"),
        (["--format", "torchscript", "--verify", "nowhere"], "unknown data set 'nowhere'"),
        (["--format", "tensorflow"], "Invalid value for '--format'"),
        ([], "Missing option '--format'"),
    ],
)
def test_refusals(checkpoint: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = export(checkpoint, *arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["model_best.pth.tar"]
