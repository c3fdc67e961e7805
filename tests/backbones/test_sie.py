from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reidkit.backbones import (
    BackboneConfig,
    EmbeddingModel,
    create_backbone,
    infer_architecture,
    load_weights,
    to_supervised_layout,
    to_usl_layout,
)
from reidkit.errors import CheckpointError, ConfigError
from tests.backbones.golden_weights import TINY, fill, images

SIZE = (32, 16)
CAMERAS = torch.tensor([0, 3, -1, 3, 5])


def vit(cameras: int = 6, name: str = "vit_tiny_ics") -> Any:
    torch.manual_seed(0)
    model = create_backbone(name, image_size=SIZE, **TINY, sie_cameras=cameras).eval()
    fill(model)
    return model


def _shifted(model: Any, image: Tensor, shift: Tensor) -> Tensor:
    """The feature of one image (1, 3, H, W) by a plain ViT whose position embedding is moved by `shift` (D,)."""
    plain = vit(0)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "sie_embed"}
    plain.load_state_dict(state | {"pos_embed": state["pos_embed"] + shift})
    feature: Tensor = plain(image)
    return feature


def test_three_times_the_cameras_vector_is_added_to_every_token() -> None:
    model, batch = vit(), images(0, 5, SIZE)
    with torch.inference_mode():
        features = model(batch, CAMERAS)
        for index, camera in enumerate(CAMERAS.tolist()):
            shift = torch.zeros(32) if camera == -1 else 3.0 * model.sie_embed[camera, 0]
            expected = _shifted(model, batch[index : index + 1], shift)
            torch.testing.assert_close(features[index : index + 1], expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(features, model(batch), atol=1e-3)


def test_unknown_cameras_leave_the_plain_vit() -> None:
    model, plain, batch = vit(), vit(0), images(0, 3, SIZE)
    with torch.inference_mode():
        expected = plain(batch)
        assert torch.equal(model(batch), expected)
        assert torch.equal(model(batch, torch.full((3,), -1)), expected)


def test_the_table_is_a_small_truncated_normal_and_changes_no_other_weight() -> None:
    def create(cameras: int) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return create_backbone("vit_tiny_ics", image_size=SIZE, **TINY, sie_cameras=cameras).state_dict()

    plain, state = create(0), create(100)
    table = state.pop("sie_embed")
    assert table.shape == (100, 1, 32)
    assert float(table.std()) == pytest.approx(0.02, rel=0.1)
    assert list(state) == list(plain)
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())


def test_only_the_vectors_of_seen_cameras_learn() -> None:
    model = vit()
    model(images(0, 5, SIZE), CAMERAS).square().sum().backward()
    assert model.sie_embed.grad.abs().amax((1, 2)).gt(0).tolist() == [True, False, False, True, False, True]


def test_a_camera_without_a_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"camera 6 \(ids begin at 0\) reached a backbone with sie_cameras=6"):
        vit()(images(0, 2, SIZE), torch.tensor([0, 6]))


def test_without_the_option_there_is_no_such_argument() -> None:
    plain = vit(0)
    assert plain.sie_cameras == 0
    assert "sie_embed" not in plain.state_dict()
    with pytest.raises(TypeError):
        plain(images(0, 2, SIZE), cameras=torch.tensor([0, 1]))


@pytest.mark.parametrize(("name", "cameras"), [("resnet10t", 6), ("vit_tiny", -1)])
def test_other_backbones_and_negative_numbers_are_refused(name: str, cameras: int) -> None:
    with pytest.raises(ConfigError, match=f"sie_cameras={cameras} does not fit backbone '{name}'"):
        create_backbone(name, image_size=SIZE, sie_cameras=cameras)


def test_the_model_passes_cameras_on() -> None:
    backbone, batch = vit(), images(0, 5, SIZE)
    model = EmbeddingModel(backbone, retrieval="before_neck").eval()
    with torch.inference_mode():
        told, untold = backbone(batch, CAMERAS), backbone(batch)
        assert torch.equal(model(batch, CAMERAS).before_neck, told)
        assert torch.equal(model(batch).before_neck, untold)
        torch.testing.assert_close(model.embed(batch, CAMERAS), nn.functional.normalize(told))
        torch.testing.assert_close(model.embed(batch), nn.functional.normalize(untold))


def test_the_model_keeps_cameras_from_a_backbone_that_has_no_use_for_them() -> None:
    model, batch = EmbeddingModel(vit(0)).eval(), images(0, 5, SIZE)
    with torch.inference_mode():
        assert torch.equal(model.embed(batch, CAMERAS), model.embed(batch))


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_ics"])
def test_the_number_of_cameras_is_read_off_a_checkpoint(name: str, tmp_path: Path) -> None:
    saved = EmbeddingModel(vit(name=name)).eval()
    for content in (to_supervised_layout(saved), to_usl_layout(saved)):
        torch.save(content, tmp_path / "model.pth")
        architecture = infer_architecture(content)
        assert architecture["sie_cameras"] == 6
        config = BackboneConfig(**(architecture | {"num_heads": TINY["num_heads"]}))
        backbone: Any = create_backbone(**config.model_dump())
        load_weights(backbone, tmp_path / "model.pth")
        with torch.inference_mode():
            batch = images(0, 5, SIZE)
            torch.testing.assert_close(backbone.eval()(batch, CAMERAS), saved.backbone(batch, CAMERAS))


def test_a_plain_checkpoint_says_nothing_of_cameras() -> None:
    assert "sie_cameras" not in infer_architecture(vit(0).state_dict())


def test_a_checkpoint_with_cameras_does_not_slip_into_a_plain_vit(tmp_path: Path) -> None:
    torch.save(vit().state_dict(), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"sie_embed has shape .*sie_cameras=6"):
        load_weights(vit(0), tmp_path / "model.pth")


def test_published_weights_leave_the_table_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    published = vit(0, "vit_tiny")
    monkeypatch.setattr("timm.create_model", lambda *_, **__: published)
    torch.manual_seed(5)
    model = create_backbone("vit_tiny", image_size=SIZE, **TINY, sie_cameras=4, pretrained="timm")
    state = model.state_dict()
    assert float(state.pop("sie_embed").abs().max()) > 0
    assert all(torch.equal(tensor, published.state_dict()[name]) for name, tensor in state.items())
