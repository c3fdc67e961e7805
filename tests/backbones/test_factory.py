import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from reidkit.backbones import EmbeddingModel, create_backbone, is_published, load_weights
from reidkit.errors import CheckpointError, ConfigError
from tests.backbones.golden_weights import TINY, fill, images

CNN = "resnet10t"


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    torch.manual_seed(0)
    return create_backbone(CNN, image_size=(64, 64)).eval()


def test_cnn_by_timm_name_pools_its_feature_map_with_gem(cnn: Any) -> None:
    batch = images(0, 2, (64, 64))
    with torch.inference_mode():
        maps = cnn.forward_features(batch)
        expected = maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        torch.testing.assert_close(cnn(batch), expected)
    assert maps.shape == (2, 512, 2, 2)
    assert (cnn.feature_dim, cnn.image_size) == (512, (64, 64))


def test_cnn_keeps_timms_names_and_starts_with_clean_batch_statistics(cnn: Any) -> None:
    state = cnn.state_dict()
    with torch.device("meta"):
        assert list(state) == [*timm.create_model(CNN, num_classes=0).state_dict(), "gem.p"]
    assert all(tensor.item() == 0 for key, tensor in state.items() if key.endswith("num_batches_tracked"))


@pytest.mark.parametrize(("name", "width"), [("mobilenetv3_small_050", 1024), ("convnext_atto", 320)])
def test_cnns_with_layers_after_the_map_use_them_all(name: str, width: int) -> None:
    with torch.device("meta"):
        model: Any = create_backbone(name, image_size=(64, 32))
        features = model(torch.empty(2, 3, 64, 32))
    assert model.training
    assert features.shape == (2, model.feature_dim) == (2, width)
    features.square().sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_copy_of_a_cnn_pools_with_its_own_exponent(cnn: Any) -> None:
    twin = copy.deepcopy(cnn)
    twin.gem.p.data.fill_(1.0)
    batch = images(0, 1, (64, 64))
    with torch.inference_mode():
        assert not torch.allclose(twin(batch), cnn(batch))
        torch.testing.assert_close(twin(batch), cnn.forward_features(batch).clamp(min=1e-6).mean((2, 3)))


def test_vit_by_timm_name_takes_person_images() -> None:
    model: Any = create_backbone("vit_tiny_patch16_224.augreg_in21k", image_size=(64, 32), depth=2, drop_path=0.2)
    assert model.pos_embed.shape == (1, 9, 192)
    assert len(model.blocks) == 2
    assert model.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)
    assert model(torch.randn(2, 3, 64, 32)).shape == (2, model.feature_dim) == (2, 192)


def test_our_vit_is_timms_twin_in_names_and_numbers() -> None:
    ours = create_backbone("vit_tiny", image_size=(64, 32), depth=2).eval()
    timms = create_backbone("vit_tiny_patch16_224", image_size=(64, 32), depth=2).eval()
    fill(ours)
    timms.load_state_dict(ours.state_dict())
    batch = images(0, 2, (64, 32))
    with torch.inference_mode():
        torch.testing.assert_close(timms(batch), ours(batch))


def test_transformers_with_feature_maps_keep_their_own_pooling() -> None:
    with torch.device("meta"):
        model: Any = create_backbone("swin_tiny_patch4_window7_224", image_size=(64, 32))
    assert model.feature_dim == 768
    assert not hasattr(model, "gem")


def test_embedding_model_of_a_cnn_learns_the_exponent(cnn: Any) -> None:
    model = EmbeddingModel(copy.deepcopy(cnn).train())
    model(torch.randn(4, 3, 64, 64)).after_neck.square().sum().backward()
    assert model.get_parameter("backbone.gem.p").grad is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_ics", "unknown backbone 'vit_smal_ics'; did you mean .*vit_small_ics"),
        ("resnet_50", "did you mean .*resnet50"),
        ("owner/model", "unknown backbone 'owner/model'"),
        ("zzzzzzzz", r"`timm.list_models\(\)` lists"),
    ],
)
def test_unknown_name_suggests_close_ones(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_backbone(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (CNN, {"depth": 3}, "timm could not create 'resnet10t' .*'depth': 3"),
        (f"{CNN}.nothing", {}, "Invalid pretrained tag"),
        ("inception_v4", {"image_size": (16, 16)}, "'inception_v4' cannot take images of 16x16 .* larger"),
    ],
)
def test_what_timm_refuses_is_explained(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, **options)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and nothing downloaded earlier, wherever the test runs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "pretrained", "options", "asked"),
    [
        (f"{CNN}.c3_in1k", True, {}, f"{CNN}.c3_in1k"),
        ("vit_tiny", "timm", {"depth": 1}, "vit_tiny_patch16_224"),
        ("hf-hub:timm/none", False, {}, "hf-hub:timm/none"),
    ],
)
def test_failed_download_names_the_model_and_the_remedy(
    name: str, pretrained: bool | str, options: dict[str, Any], asked: str
) -> None:
    with pytest.raises(CheckpointError, match=f"weights of '{asked}' .* network .* path as `pretrained`"):
        create_backbone(name, image_size=(64, 32), pretrained=pretrained, **options)


def test_stem_has_no_weights_at_timm() -> None:
    with pytest.raises(ConfigError, match="timm publishes no weights for 'vit_small_ics'; give the path"):
        create_backbone("vit_small_ics", image_size=(32, 16), depth=1, pretrained=True)


def test_published_weights_fill_our_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[nn.Module] = []
    create = timm.create_model

    def download(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        assert (name, pretrained) == ("vit_tiny_patch16_224", True)
        model = create(name, **options)
        fill(model)
        published.append(model)
        return model

    monkeypatch.setattr(timm, "create_model", download)
    model = create_backbone("vit_tiny", image_size=(64, 32), depth=1, pretrained="timm")
    batch = images(0, 2, (64, 32))
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(batch), published[0].eval()(batch))


@pytest.mark.parametrize("as_text", [True, False])
def test_pretrained_may_be_a_path(tmp_path: Path, as_text: bool) -> None:
    file = tmp_path / "weights.pth"
    source = create_backbone("vit_tiny_ics", image_size=(32, 16), **TINY)
    torch.save(source.state_dict(), file)
    model = create_backbone("vit_tiny_ics", image_size=(32, 16), **TINY, pretrained=str(file) if as_text else file)
    assert torch.equal(model.state_dict()["pos_embed"], source.state_dict()["pos_embed"])


def test_weights_of_timms_cnn_load_from_a_file(cnn: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "resnet.pth"
    source: Any = timm.create_model(CNN, num_classes=10)
    torch.save(source.state_dict(), file)
    model = copy.deepcopy(cnn)
    with caplog.at_level("INFO"):
        report = load_weights(model, file)
    assert report.skipped == ("fc.weight", "fc.bias")
    assert report.fresh == ("gem.p",)
    assert "fc.weight" in caplog.text
    batch = images(0, 2, (64, 32))
    with torch.inference_mode():
        maps = source.eval().forward_features(batch)
        torch.testing.assert_close(model.eval()(batch), maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3))


@pytest.mark.parametrize(
    ("name", "weights"), [("vit_tiny", "vit_tiny_patch16_224.augreg_in21k"), (CNN, f"{CNN}.c3_in1k")]
)
def test_weights_may_bear_another_name_of_the_architecture(
    name: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, asked = timm.create_model, []

    def download(model: str, *, pretrained: bool, **options: Any) -> Any:
        made: Any = create(model, pretrained=False, **options)
        if pretrained:
            asked.append(model)
            torch.nn.init.constant_(next(made.parameters()), 0.5)
        return made

    monkeypatch.setattr(timm, "create_model", download)
    depth = {"depth": 1} if name == "vit_tiny" else {}
    model = create_backbone(name, image_size=(64, 32), pretrained=weights, **depth)
    assert asked == [weights]
    assert (next(model.parameters()) == 0.5).all()
    with pytest.raises(CheckpointError, match="are of another model than 'vit_small'"):
        create_backbone("vit_small", image_size=(64, 32), pretrained=weights)


def test_a_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [is_published(name) for name in ("", "timm", CNN, "hf-hub:a/b", "w.pth")] == [False, True, True, True, False]
    (tmp_path / CNN).write_bytes(b"")
    assert not is_published(CNN)
