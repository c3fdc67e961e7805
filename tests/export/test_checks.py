"""Models that cannot be exported are refused before anything is written."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reidkit.errors import CheckpointError, ConfigError, DataError
from reidkit.export import Format, checks, export_checkpoint
from tests.export.models import SIZE, TINY, save


@pytest.mark.parametrize("file_format", ["onnx", "torchscript"])
def test_camera_embeddings_do_not_fit_a_graph_of_images(tmp_path: Path, file_format: Format) -> None:
    folder, _ = save(tmp_path / "run", backbone={**TINY, "sie_cameras": 5})
    with pytest.raises(CheckpointError, match=r"embeddings of 5 cameras.*--no-cameras"):
        export_checkpoint(folder, file_format)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({**TINY, "num_heads": 4}, "has 4 attention heads and images of 32x16.* would take 1 heads and 32x16"),
        ({"name": "resnet10t", "image_size": SIZE}, "is of 'resnet10t', which format transreid-ssl has no names for"),
    ],
)
def test_models_that_the_transreid_layout_cannot_hold(tmp_path: Path, backbone: dict[str, Any], words: str) -> None:
    folder, _ = save(tmp_path / "run", backbone=backbone)
    with pytest.raises(CheckpointError, match=words):
        export_checkpoint(folder, "transreid-ssl")
    assert export_checkpoint(folder, "safetensors").difference <= 1e-4


@pytest.mark.parametrize(
    ("file_format", "name", "words"),
    [
        ("onnx", "model.pt", r"suffix '\.pt'; files of format onnx end in \.onnx"),
        ("safetensors", "model", r"suffix ''; .* end in \.safetensors"),
        ("torchscript", "m.pth", r"end in \.pt or \.ts or \.torchscript"),
    ],
)
def test_a_suffix_of_another_format_is_refused(file_format: Format, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        export_checkpoint(Path("absent.pt"), file_format, Path(name))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "onnxruntime" else find_spec("json"))
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed: pip install 'reidkit\[onnx\]'"):
        export_checkpoint(Path("absent.pt"), "onnx")


def test_real_images_are_those_asked_for_or_the_runs(people: Path, tmp_path: Path) -> None:
    folder, _ = save(tmp_path / "run", target=str(people))
    elsewhere, _ = save(tmp_path / "elsewhere")
    counts = [
        (done.random_images, done.real_images)
        for done in (
            export_checkpoint(folder, "safetensors"),
            export_checkpoint(elsewhere, "safetensors"),
            export_checkpoint(elsewhere, "safetensors", verify=people),
            export_checkpoint(elsewhere, "safetensors", verify=Path(people.name), data_root=people.parent),
        )
    ]
    assert counts == [(16, 16), (16, 0), (16, 16), (16, 16)]
    with pytest.raises(DataError, match="unknown data set 'nowhere'"):
        export_checkpoint(folder, "safetensors", verify=Path("nowhere"))


def test_generated_images_are_taken_from_the_cache_and_never_made(people: Path, tmp_path: Path) -> None:
    folder, _ = save(tmp_path / "run", target="synthetic")
    assert export_checkpoint(folder, "safetensors").real_images == 0
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache" / "synthetic").mkdir(parents=True)
    (tmp_path / "cache" / "synthetic" / "synthetic-0123abcd").symlink_to(people)
    assert export_checkpoint(folder, "safetensors").real_images == 16
