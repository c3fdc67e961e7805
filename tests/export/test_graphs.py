"""ONNX and TorchScript files hold the checkpoint's features."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from reidkit.backbones import EmbeddingModel, read_checkpoint, split_domains
from reidkit.datasets import decode_images
from reidkit.datasets.image_files import image_files
from reidkit.errors import CheckpointError
from reidkit.export import Exported, export_checkpoint
from tests.export.models import SIZE, expected, load_torchscript, random_images, save
from tests.tiny import tiny_people

needs_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra `onnx` is not installed")


def onnx_features(path: Path, images: Tensor) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features: NDArray[np.float32] = session.run(["features"], {"images": images.numpy()})[0]
    return features


@pytest.fixture(scope="module")
def onnx_file(run: tuple[Path, EmbeddingModel], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_checkpoint(run[0], "onnx", tmp_path_factory.mktemp("onnx") / "people.onnx")


@needs_onnx
@pytest.mark.parametrize("count", [1, 3, 16])
def test_onnx_features_are_those_of_the_checkpoint(
    run: tuple[Path, EmbeddingModel], onnx_file: Exported, count: int
) -> None:
    images = random_images(count)
    found, wanted = onnx_features(onnx_file.path, images), expected(run[1], images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
    assert np.abs(wanted - expected(run[1], images, "before_neck")).max() > 0.01
    assert onnx_file.difference <= 1e-4


@needs_onnx
def test_onnx_says_what_it_takes_and_nothing_of_the_machine_that_wrote_it(onnx_file: Exported) -> None:
    import onnx

    model = onnx.load(onnx_file.path)
    onnx.checker.check_model(model, full_check=True)
    (images,), (features,) = model.graph.input, model.graph.output
    shapes = [
        [size.dim_param or size.dim_value for size in port.type.tensor_type.shape.dim] for port in (images, features)
    ]
    assert (images.name, features.name, shapes) == ("images", "features", [["batch", 3, *SIZE], ["batch", 64]])
    assert {entry.key: entry.value for entry in model.metadata_props} == onnx_file.metadata
    data = onnx_file.path.read_bytes()
    assert b".py" not in data
    assert str(onnx_file.path.parent).encode() not in data


@needs_onnx
@pytest.mark.slow
def test_onnx_features_of_the_papers_model_on_a_hundred_images(tmp_path: Path) -> None:
    size = (256, 128)
    folder, model = save(tmp_path / "run", backbone={"name": "vit_small_ics", "image_size": size})
    people = tiny_people(tmp_path / "people", train_identities=20)
    paths = image_files(people / "bounding_box_train")[:100]
    assert len(paths) == 100
    done = export_checkpoint(folder, "onnx", verify=people)
    images = torch.from_numpy(decode_images(paths, size).pixels) / 255
    for batch_size in (1, 16):
        found = [onnx_features(done.path, batch) for batch in torch.split(images, batch_size)]
        np.testing.assert_allclose(np.concatenate(found), expected(model, images), atol=1e-4, rtol=0)


def test_torchscript_takes_batches_of_any_size(run: tuple[Path, EmbeddingModel]) -> None:
    done = export_checkpoint(run[0], "torchscript")
    module, metadata = load_torchscript(done.path)
    for count in (1, 3, 16):
        images = random_images(count)
        np.testing.assert_allclose(module(images).numpy(), expected(run[1], images), atol=1e-5, rtol=0)
    assert metadata == done.metadata


def test_a_model_of_two_domains_is_exported_with_the_statistics_of_its_target(tmp_path: Path) -> None:
    folder, model = save(tmp_path / "run", change=split_domains)
    done = export_checkpoint(folder, "torchscript")
    images = random_images(3)
    np.testing.assert_allclose(
        load_torchscript(done.path)[0](images).numpy(), expected(model, images), atol=1e-5, rtol=0
    )
    content = read_checkpoint(export_checkpoint(folder, "safetensors").path)
    assert not [name for name in content if "source" in name]


def test_a_model_that_pytorch_cannot_export_is_named(
    run: tuple[Path, EmbeddingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("an operator\nis unknown")

    monkeypatch.setattr(torch.jit, "trace", fail)
    with pytest.raises(CheckpointError, match=r"could not export 'vit_tiny_ics' .* \(an operator\); take another"):
        export_checkpoint(run[0], "torchscript")
