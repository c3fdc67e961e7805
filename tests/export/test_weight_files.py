"""Files of weights are read back as they were written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reidkit.backbones import EmbeddingModel, load_weights
from reidkit.errors import CheckpointError
from reidkit.export import Format, checkpoint_export, export_checkpoint, weight_files
from reidkit.loop import load_model
from tests.backbones.golden_weights import golden_keys
from tests.export.models import MEAN, STD, expected, random_images, save


def _own(key: str) -> str:
    """Our name of a weight of a USL run."""
    return key if key.startswith("bottleneck.") else f"backbone.{key}"


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


def test_weights_that_change_on_the_way_are_noticed(
    run: tuple[Path, EmbeddingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: EmbeddingModel, path: Path) -> None:
        load_weights(model, path)
        model.bottleneck.state_dict()["num_batches_tracked"].add_(1)  # features do not show it

    monkeypatch.setattr(weight_files, "load_weights", spoil)
    with pytest.raises(CheckpointError, match=r"bottleneck\.num_batches_tracked of .* is not the same when read back"):
        export_checkpoint(run[0], "safetensors")
