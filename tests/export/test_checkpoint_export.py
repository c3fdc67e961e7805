"""Exported files hold the checkpoint's features, and what a stranger needs to know."""

import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from reidkit.backbones import EmbeddingModel, create_backbone, load_weights, read_checkpoint, split_domains
from reidkit.datasets import decode_images
from reidkit.datasets.image_files import image_files
from reidkit.errors import CheckpointError, ConfigError, DataError
from reidkit.export import Exported, Format, checkpoint_export, checks, export_checkpoint, weight_files
from reidkit.export.formats import METADATA_FILE
from reidkit.export.graphs import Retriever
from reidkit.loop import load_model
from reidkit.runs import resolve_config
from tests.backbones.golden_weights import fill, golden_keys
from tests.tiny import tiny_people

SIZE = (32, 16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = {"name": "vit_tiny_ics", "image_size": SIZE, "embed_dim": 64, "depth": 1, "num_heads": 1}
needs_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra `onnx` is not installed")


def save(
    folder: Path,
    *,
    backbone: dict[str, Any] = TINY,
    retrieval: str = "after_neck",
    target: str = "absent",
    change: Callable[[EmbeddingModel], None] = lambda _: None,
) -> tuple[Path, EmbeddingModel]:
    """A run folder with a best model, as a run leaves it, and that model."""
    model = EmbeddingModel(create_backbone(**backbone)).eval()
    fill(model)
    change(model)
    config = resolve_config([{"backbone": backbone, "data": {"target": target, "mean": MEAN, "std": STD}}])
    history = [{"epoch": 0, "mAP": 20.0}, {"epoch": 3, "mAP": 62.5}, {"epoch": 4}]
    state = {"model": model.state_dict(), "retrieval": retrieval, "config": config.model_dump_json()}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({**state, "history": history}, folder / "checkpoints" / "best.pt")
    return folder, model


def expected(model: EmbeddingModel, images: Tensor, retrieval: str = "after_neck") -> NDArray[np.float32]:
    """Features by their definition."""
    normalised = torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    with torch.inference_mode():
        feature = model.backbone(normalised)
        feature = model.bottleneck(feature) if retrieval == "after_neck" else feature
    units: NDArray[np.float32] = (feature / feature.norm(dim=1, keepdim=True)).numpy()
    return units


def _own(key: str) -> str:
    """Our name of a weight of a USL run."""
    return key if key.startswith("bottleneck.") else f"backbone.{key}"


def random_images(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))


def onnx_features(path: Path, images: Tensor) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features: NDArray[np.float32] = session.run(["features"], {"images": images.numpy()})[0]
    return features


def load_torchscript(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    files = {METADATA_FILE: ""}
    load: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit")
        module = load(path, _extra_files=files)
    return module, json.loads(files[METADATA_FILE])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a folder go to one of their own; no cached data set is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EmbeddingModel]:
    return save(tmp_path_factory.mktemp("runs") / "usl-people")


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


@pytest.mark.parametrize("retrieval", ["after_neck", "before_neck"])
@pytest.mark.parametrize("file_format", ["safetensors", "transreid-ssl"])
def test_weights_are_read_back_as_they_were(tmp_path: Path, file_format: Format, retrieval: str) -> None:
    folder, model = save(tmp_path / "run", retrieval=retrieval)
    trained = load_model(export_checkpoint(folder, file_format).path)
    read = trained.model.eval().state_dict()
    own = model.state_dict()
    assert all(torch.equal(read[name], own[name]) for name in own if retrieval == "after_neck" or "backbone" in name)
    normalised = (random_images(4) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        found = trained.model.embed(normalised).numpy()
    np.testing.assert_allclose(found, expected(model, random_images(4), retrieval), atol=1e-5, rtol=0)


def test_transreid_layout_has_the_published_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_export, "_VERIFIED", 1)  # large images: the others verify on more
    name = "vit_small_ics"
    folder, model = save(tmp_path / "run", backbone={"name": name})
    done = export_checkpoint(folder, "transreid-ssl")
    content = torch.load(done.path, weights_only=True)
    keys, _ = golden_keys(f"usl_{name}_256x128")
    assert [(key, list(tensor.shape)) for key, tensor in content["state_dict"].items()] == [
        (f"module.{key}", shape) for key, shape in keys
    ]
    assert all(type(tensor) is Tensor for tensor in content["state_dict"].values())
    assert (content["epoch"], content["best_mAP"]) == (4, 0.625)
    assert {key: content[key] for key in done.metadata} == done.metadata
    assert all(torch.equal(content["state_dict"][f"module.{key}"], model.state_dict()[_own(key)]) for key, _ in keys)


def test_transreid_layout_of_a_feature_before_the_neck_is_that_of_supervised_training(tmp_path: Path) -> None:
    folder, model = save(tmp_path / "run", retrieval="before_neck")
    content = torch.load(export_checkpoint(folder, "transreid-ssl").path, weights_only=True)
    backbone = [f"base.{name}" for name in model.backbone.state_dict()]
    assert list(content) == [*backbone, *(f"bottleneck.{name}" for name in model.bottleneck.state_dict())]


def test_a_model_of_two_domains_is_exported_with_the_statistics_of_its_target(tmp_path: Path) -> None:
    folder, model = save(tmp_path / "run", change=split_domains)
    done = export_checkpoint(folder, "torchscript")
    images = random_images(3)
    np.testing.assert_allclose(
        load_torchscript(done.path)[0](images).numpy(), expected(model, images), atol=1e-5, rtol=0
    )
    content = read_checkpoint(export_checkpoint(folder, "safetensors").path)
    assert not [name for name in content if "source" in name]


@pytest.mark.parametrize("file_format", ["onnx", "torchscript"])
def test_camera_embeddings_do_not_fit_a_graph_of_images(tmp_path: Path, file_format: Format) -> None:
    folder, _ = save(tmp_path / "run", backbone={**TINY, "sie_cameras": 5})
    with pytest.raises(CheckpointError, match=r"embeddings of 5 cameras.*--no-cameras"):
        export_checkpoint(folder, file_format)


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


def test_weights_that_change_on_the_way_are_noticed(
    run: tuple[Path, EmbeddingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: EmbeddingModel, path: Path) -> None:
        load_weights(model, path)
        model.bottleneck.state_dict()["num_batches_tracked"].add_(1)  # features do not show it

    monkeypatch.setattr(weight_files, "load_weights", spoil)
    with pytest.raises(CheckpointError, match=r"bottleneck\.num_batches_tracked of .* is not the same when read back"):
        export_checkpoint(run[0], "safetensors")


def test_a_model_that_pytorch_cannot_export_is_named(
    run: tuple[Path, EmbeddingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("an operator\nis unknown")

    monkeypatch.setattr(torch.jit, "trace", fail)
    with pytest.raises(CheckpointError, match=r"could not export 'vit_tiny_ics' .* \(an operator\); take another"):
        export_checkpoint(run[0], "torchscript")


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
