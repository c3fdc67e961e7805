"""Exported files hold the checkpoint's features, and what a stranger needs to know."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from reidkit.backbones import EmbeddingModel, read_checkpoint
from reidkit.errors import CheckpointError, ConfigError, DataError
from reidkit.export import Format, export_checkpoint
from reidkit.export.graphs import Retriever
from tests.export.models import MEAN, SIZE, STD, TINY, expected, load_torchscript, random_images, save


def test_metadata_say_how_to_prepare_an_image(run: tuple[Path, EmbeddingModel]) -> None:
    done = export_checkpoint(run[0], "safetensors")
    with safe_open(done.path, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata == done.metadata
    assert [json.loads(metadata[key]) for key in ("image_size", "mean", "std")] == [list(SIZE), list(MEAN), list(STD)]
    assert metadata["checkpoint"] == "usl-people/checkpoints/best.pt"
    assert (metadata["channels"], metadata["retrieval"], metadata["cameras"]) == ("RGB", "after_neck", "0")
    for key, words in {
        "normalisation": "before the model",
        "resize": "bicubic",
        "input": "[0, 1], normalised",
        "output": "(batch, 64), to be L2-normalised",
    }.items():
        assert words in metadata[key]
    assert "inside the model" in export_checkpoint(run[0], "torchscript").metadata["normalisation"]


def test_camera_embeddings_are_kept_as_weights_or_left_out_on_demand(tmp_path: Path) -> None:
    folder, model = save(tmp_path / "run", backbone={**TINY, "sie_cameras": 5})
    images = random_images(3)
    done = export_checkpoint(folder, "torchscript", cameras=False)
    np.testing.assert_allclose(
        load_torchscript(done.path)[0](images).numpy(), expected(model, images), atol=1e-5, rtol=0
    )
    stored = export_checkpoint(folder, "safetensors")
    assert (done.metadata["cameras"], stored.metadata["cameras"]) == ("0", "5")
    read = read_checkpoint(stored.path)
    assert torch.equal(read["backbone.sie_embed"], model.state_dict()["backbone.sie_embed"])


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_file_with_other_features_is_not_left_behind(
    run: tuple[Path, EmbeddingModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    (tmp_path / "old.ts").write_text("old")
    right = Retriever.forward
    monkeypatch.setattr(Retriever, "forward", lambda model, images: right(model, images) + value)
    with pytest.raises(CheckpointError, match=r"torchscript file differ.*by up to (5\.0e-01|nan).*was not written"):
        export_checkpoint(run[0], "torchscript", Path("old.ts"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.ts"]
    assert (tmp_path / "old.ts").read_text() == "old"


def test_the_checkpoint_is_not_overwritten_and_a_missing_folder_is_named(run: tuple[Path, EmbeddingModel]) -> None:
    file = run[0] / "checkpoints" / "best.pt"
    with pytest.raises(ConfigError, match="is the checkpoint itself"):
        export_checkpoint(run[0], "transreid-ssl", file)
    with pytest.raises(DataError, match="cannot be written"):
        export_checkpoint(run[0], "transreid-ssl", Path("nowhere/model.pth"))
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        export_checkpoint(Path("nowhere"), "transreid-ssl")


@pytest.mark.parametrize(
    ("checkpoint", "file_format", "name"),
    [
        ("usl-people", "torchscript", "usl-people.pt"),
        ("usl-people/checkpoints/best.pt", "safetensors", "best.safetensors"),
        ("model_best.v2.pth.tar", "transreid-ssl", "model_best.v2.pth"),
    ],
)
def test_files_are_called_after_the_checkpoint(
    run: tuple[Path, EmbeddingModel], tmp_path: Path, checkpoint: str, file_format: Format, name: str
) -> None:
    if checkpoint.startswith("model"):
        (tmp_path / checkpoint).write_bytes((run[0] / "checkpoints" / "best.pt").read_bytes())
        source = tmp_path / checkpoint
    else:
        source = run[0].parent / checkpoint
    assert export_checkpoint(source, file_format).path == Path(name)
    assert (tmp_path / name).is_file()
