import argparse
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from reidkit.backbones import (
    EmbeddingModel,
    create_backbone,
    load_weights,
    read_checkpoint,
    resize_position_embedding,
    to_supervised_layout,
    to_usl_layout,
)
from reidkit.errors import CheckpointError
from tests.backbones.golden_weights import TINY

Content = dict[str, Any]


def _model(seed: int, image_size: tuple[int, int] = (32, 16), name: str = "vit_tiny_ics") -> EmbeddingModel:
    """A small model of which no two tensors are alike, the neck's included."""
    torch.manual_seed(seed)
    model = EmbeddingModel(create_backbone(name, image_size=image_size, **TINY))
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("bottleneck.bias"):
            tensor.uniform_(0.5, 1.5)
    return model


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in state.items()}


def _same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


def _dino(model: EmbeddingModel) -> Content:
    backbone = {f"module.backbone.{key}": tensor for key, tensor in model.backbone.state_dict().items()}
    student = {key: torch.zeros_like(tensor) for key, tensor in backbone.items()}
    teacher = backbone | {
        "module.head.mlp.0.weight": torch.zeros(2, 2),
        "module.head.last_layer.weight_g": torch.zeros(2),
    }
    args = argparse.Namespace(arch="vit_small", lr=5e-4, local_crops_scale=(0.05, 0.4))
    return {"student": student, "teacher": teacher, "optimizer": {"state": {}}, "epoch": 100, "args": args}


def _flat(model: EmbeddingModel) -> Content:
    return OrderedDict(model.backbone.state_dict()) | {
        "head.weight": torch.zeros(3, 32),
        "pre_logits.fc.bias": torch.zeros(3),
    }


def _supervised(model: EmbeddingModel) -> Content:
    return dict(to_supervised_layout(model, nn.Linear(32, 7, bias=False)))


def _usl(model: EmbeddingModel) -> Content:
    return to_usl_layout(model, epoch=50) | {"best_mAP": np.float64(0.506)}


def _own(model: EmbeddingModel) -> Content:
    return {"model": model.state_dict(), "optimizer": {"state": {}}, "epoch": 7, "config": {"name": "vit_tiny_ics"}}


LAYOUTS = {
    "dino": (_dino, ("head.mlp.0.weight", "head.last_layer.weight_g")),
    "flat": (_flat, ("head.weight", "pre_logits.fc.bias")),
    "supervised": (_supervised, ("classifier.weight",)),
    "usl": (_usl, ()),
    "reidkit": (_own, ()),
}
NECK = tuple(f"bottleneck.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_fills_a_model_with_a_neck(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str, zipped: bool
) -> None:
    write, skipped = LAYOUTS[layout]
    source, model = _model(0), _model(1)
    file = tmp_path / "model_best.pth.tar"
    torch.save(write(source), file, _use_new_zipfile_serialization=zipped)
    with caplog.at_level("INFO", logger="reidkit"):
        report = load_weights(model, file)

    assert (report.file, report.layout, report.positions_resized) == (file, layout, False)
    assert _same(model.backbone.state_dict(), source.backbone.state_dict())
    if layout in ("usl", "reidkit"):
        assert _same(model.bottleneck.state_dict(), source.bottleneck.state_dict())
        assert (report.fresh, report.skipped) == ((), ())
    else:
        assert _same(model.bottleneck.state_dict(), nn.BatchNorm1d(32).state_dict())
        assert report.fresh == ("bottleneck",)
        assert report.skipped == (*skipped, *(NECK if layout == "supervised" else ()))
    assert all(name in caplog.text for name in (*report.skipped, *report.fresh, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_fills_a_backbone(tmp_path: Path, layout: str) -> None:
    write, skipped = LAYOUTS[layout]
    source, model = _model(0), _model(1).backbone
    torch.save(write(source), tmp_path / "weights.pth")
    report = load_weights(model, tmp_path / "weights.pth")
    assert _same(model.state_dict(), source.backbone.state_dict())
    assert report.fresh == ()
    assert set(report.skipped) == set(skipped) | (set(NECK) if layout in ("supervised", "usl", "reidkit") else set())


def test_safetensors(tmp_path: Path) -> None:
    source, model = _model(0), _model(1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    assert load_weights(model, tmp_path / "model.safetensors").layout == "reidkit"
    assert _same(model.state_dict(), source.state_dict())


def test_half_precision_file_keeps_the_models_number_format(tmp_path: Path) -> None:
    source, model = _model(0).backbone, _model(1).backbone
    torch.save(
        {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in source.state_dict().items()},
        tmp_path / "half.pth",
    )
    load_weights(model, tmp_path / "half.pth")
    weight = model.state_dict()["norm.weight"]
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, source.state_dict()["norm.weight"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("given", [2, None])
def test_positions_are_resized_to_the_models_grid(tmp_path: Path, given: int | None) -> None:
    source, model = _model(0), _model(1, image_size=(96, 32))
    torch.save(_usl(source), tmp_path / "weights.pth")
    report = load_weights(model, tmp_path / "weights.pth", hw_ratio=given)
    expected = resize_position_embedding(source.state_dict()["backbone.pos_embed"], (6, 2))
    assert report.positions_resized
    assert torch.equal(model.state_dict()["backbone.pos_embed"], expected)


def test_positions_of_an_unknown_grid_are_refused_by_file(tmp_path: Path) -> None:
    torch.save(_usl(_model(0, image_size=(80, 32))), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights.pth: 10 patches .* hw_ratio"):
        load_weights(_model(1), tmp_path / "weights.pth")


def _change(key: str, value: Tensor | None) -> Callable[[Content], None]:
    def change(state: Content) -> None:
        state.pop(key, None)
        if value is not None:
            state[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _change("norm.weight", None),
            r"norm.weight has shape \(none: it is missing\) in the file and \(32,\) in the model",
        ),
        (_change("norm.weight", torch.zeros(7)), r"norm.weight has shape \(7,\) in the file and \(32,\) in the model"),
        (
            _change("mask_token", torch.zeros(1, 32)),
            r"mask_token has shape \(1, 32\) in the file and \(none: it is missing\)",
        ),
        (_change("pos_embed", torch.zeros(1, 3, 8)), r"pos_embed has shape \(1, 3, 8\) in the file and \(1, 3, 32\)"),
        (_change("patch_embed.conv.1.IN.bias", None), "patch_embed.conv.1.IN.bias"),
    ],
)
def test_differences_are_named_and_nothing_is_loaded(
    tmp_path: Path, change: Callable[[Content], None], message: str
) -> None:
    state = dict(_model(0).backbone.state_dict())
    change(state)
    file = tmp_path / "changed.pth"
    torch.save(state, file)
    model = _model(1)
    before = _copy(model.state_dict())
    with pytest.raises(CheckpointError, match=rf"changed.pth \(flat layout\) does not fit the model: {message}"):
        load_weights(model, file)
    assert _same(model.state_dict(), before)


@pytest.mark.parametrize(
    ("key", "value"), [("module.bottleneck.running_mean", None), ("module.bottleneck.weight", torch.zeros(5))]
)
def test_damaged_neck_is_refused(tmp_path: Path, key: str, value: Tensor | None) -> None:
    content = _usl(_model(0))
    _change(key, value)(content["state_dict"])
    torch.save(content, tmp_path / "weights.pth")
    model = _model(1)
    before = _copy(model.state_dict())
    with pytest.raises(CheckpointError, match=f"usl layout.*: {key.removeprefix('module.')} has shape"):
        load_weights(model, tmp_path / "weights.pth")
    assert _same(model.state_dict(), before)


def test_error_in_a_prefixed_layout_uses_the_files_names(tmp_path: Path) -> None:
    state = _supervised(_model(0))
    del state["base.norm.bias"]
    state["decoder.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"base.norm.bias has shape \(none.*; decoder.weight has shape \(2,\)"):
        load_weights(_model(1), tmp_path / "weights.pth")


def test_weights_of_another_model_name_the_one_that_fits(tmp_path: Path) -> None:
    torch.save(_usl(_model(0)), tmp_path / "weights.pth")
    other = EmbeddingModel(create_backbone("vit_tiny", image_size=(32, 16), embed_dim=32, depth=3, num_heads=2))
    source = r"create_backbone\(name='vit_tiny_ics', image_size=\(32, 16\), embed_dim=32, depth=2"
    with pytest.raises(CheckpointError, match=rf"and \d+ more like these. The file seems to be of {source}"):
        load_weights(other, tmp_path / "weights.pth")


def test_weights_of_no_vit_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match="Create the backbone that the file was saved from"):
        load_weights(_model(1), tmp_path / "resnet.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_values_are_read_as_they_are_and_other_objects_without_content(tmp_path: Path, zipped: bool) -> None:
    content = {
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(seed=1)),
        "best_mAP": np.float64(0.5),
        "flag": np.bool_(True),
        "cmc": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big_endian": np.array([1.5, 2.5], dtype=">f8"),
        "history": OrderedDict(a=[1, 2.5, None, True, "x"]),
        "weights": {"w": torch.arange(3.0)},
        "size": torch.Size([2, 3]),
    }
    file = tmp_path / "run.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(file)
    assert list(read) == list(content)
    assert read["history"] == content["history"]
    assert torch.equal(read["weights"]["w"], torch.arange(3.0))
    assert read["size"] == (2, 3)
    assert all(vars(read[name]) == {} for name in ("args", "best_mAP", "flag", "cmc", "fortran", "big_endian"))


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_tensors_without_numbers_are_refused_and_nothing_is_loaded(tmp_path: Path, kind: str) -> None:
    state = dict(_model(0).backbone.state_dict())
    weight = state["norm.weight"]
    state["norm.weight"] = weight.to("meta") if kind == "meta" else weight.to_sparse()
    torch.save(state, tmp_path / "weights.pth")
    model = _model(1)
    before = _copy(model.state_dict())
    with pytest.raises(CheckpointError, match=r"weights\.pth holds weights that are no plain arrays .* dense"):
        load_weights(model, tmp_path / "weights.pth")
    assert _same(model.state_dict(), before)


class _Malicious:
    """Runs a shell command when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class _Evaluated:
    """Runs Python code when unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self.code,)


PLACES: dict[str, Callable[[Any], Any]] = {
    "top": lambda evil: evil,
    "beside the weights": lambda evil: {"extra": evil, "state_dict": {"w": torch.zeros(1)}},
    "among the weights": lambda evil: {"state_dict": {"x": evil, "w": torch.zeros(1)}},
    "key": lambda evil: {"state_dict": {evil: torch.zeros(1)}},
    "namespace": lambda evil: {"args": argparse.Namespace(hook=evil), "teacher": {"w": torch.zeros(1)}},
    "optimizer": lambda evil: {"optimizer": {"state": {0: [evil]}}, "model": {"w": torch.zeros(1)}},
    "numpy": lambda evil: {"best_mAP": np.array([evil], dtype=object), "model": {"w": torch.zeros(1)}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["shell", "eval"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path: Path, place: str, kind: str, form: str) -> None:
    trace, file = tmp_path / "trace", tmp_path / "evil.pth"
    evil = _Malicious(f"touch {trace}") if kind == "shell" else _Evaluated(f"open({str(trace)!r}, 'w')")
    content = PLACES[place](evil)
    if form == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(file)
    assert not trace.exists()
    message = str(caught.value)
    assert str(file) in message
    if place != "numpy":
        asked = "posix.system" if kind == "shell" else "eval"
        assert f"asks for {asked!r}, which is code" in message
        assert "state_dict()" in message


def test_the_malicious_pickle_of_these_tests_would_work(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(_Malicious(f"touch {trace}")))
    assert trace.exists()


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_code_in_other_pickle_protocols_is_never_run(tmp_path: Path, protocol: int) -> None:
    trace, file = tmp_path / "trace", tmp_path / "evil.pth"
    torch.save({"w": _Malicious(f"touch {trace}")}, file, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_checkpoint(file)
    assert not trace.exists()


def test_whole_pickled_models_are_refused_by_their_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"asks for 'torch.nn.modules.linear.Linear'"):
        read_checkpoint(tmp_path / "model.pth")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save(_model(0).state_dict(), good)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>\n<html>Quota exceeded</html>")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)))
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)))
    (tmp_path / "torch.safetensors").write_bytes(good.read_bytes())
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    messages = {
        "missing.pth": "does not exist; give the path",
        ".": "is a folder; give the path",
        "page.pth": "is a text file .it begins '<!DOCTYPE html>.* download it again",
        "empty.pth": "is empty; copy or download it again",
        "empty.safetensors": "is empty; copy or download it again",
        "noise.pth": "is damaged or cannot be read safely .*; copy or download it again",
        "noise.safetensors": "is damaged or cannot be read safely",
        "torch.safetensors": "is damaged or cannot be read safely",
        "list.pth": r"holds a list, not a dict of weights; save the model's state_dict\(\)",
    }
    for name, message in messages.items():
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, form: str) -> None:
    whole = tmp_path / ("whole.safetensors" if form == "safetensors" else "whole.pth")
    state = {"norm.weight": torch.arange(64.0), "norm.bias": torch.arange(64.0)}
    if form == "safetensors":
        safetensors.torch.save_file(state, whole)
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=form == "zip")
    data = whole.read_bytes()
    cut = whole.with_stem("cut")
    for length in range(0, len(data) - 1, max(1, len(data) // 40)):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(cut)
