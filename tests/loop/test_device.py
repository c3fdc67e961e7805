import atexit
import faulthandler
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from reidkit.backbones import create_backbone
from reidkit.cpu import cpu_has_bf16
from reidkit.errors import ConfigError
from reidkit.loop import build_model, create_fabric, device
from reidkit.loop.device import compile_backbones, finish_together, place, resolve_precision
from tests.tiny import tiny_config


def test_automatic_precision_is_what_the_processor_computes_in() -> None:
    assert resolve_precision("cpu", "auto") == ("bf16" if cpu_has_bf16() else "32")
    assert resolve_precision("cpu", "32") == "32"


def test_half_precision_needs_cuda() -> None:
    with pytest.raises(ConfigError, match="precision=16 needs a CUDA device"):
        resolve_precision("cpu", "16")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu0"])
def test_unknown_devices_are_named(device: str) -> None:
    with pytest.raises(ConfigError, match="choose auto, cpu, cuda or cuda:N"):
        create_fabric(device, "32")


def test_absent_devices_are_named() -> None:
    with pytest.raises(ConfigError, match=f"sees {torch.cuda.device_count()} CUDA devices"):
        create_fabric("cuda:99", "32")


@pytest.mark.gpu
def test_cuda_is_chosen_where_there_is_one() -> None:
    assert create_fabric("auto", "auto").device.type == "cuda"


def test_attention_on_the_cpu_is_plain_and_the_same() -> None:
    torch.manual_seed(0)
    model = create_backbone("vit_tiny_ics", image_size=(64, 32), depth=2).eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        fused = model(images)
        place(create_fabric("cpu", "32"), model)
        plain = model(images)
    assert not any(getattr(module, "fused_attn", False) for module in model.modules())
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_compiled_backbone_gives_the_same_features_under_the_same_names() -> None:
    model = build_model(tiny_config("synthetic").backbone, 0).eval()
    images = torch.randn(4, 3, 32, 16)
    names, expected = list(model.state_dict()), model(images).before_neck
    compile_backbones(model)
    torch.testing.assert_close(model(images).before_neck, expected, atol=1e-5, rtol=1e-5)
    assert list(model.state_dict()) == names


def make_group(init: Callable[..., None] = dist.init_process_group) -> None:
    init("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]


FABRIC: Any = SimpleNamespace(launch=lambda: None)


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be done at the end of the process."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: make_group())
    monkeypatch.setattr(atexit, "register", registered.append)
    return registered


def test_a_process_group_is_left_once_at_the_end(at_exit: list[Callable[[], None]]) -> None:
    device._join(FABRIC, "cpu")
    device._join(FABRIC, "cpu")  # the group is there
    assert len(at_exit) == 1
    finish_together()
    at_exit[0]()
    assert not dist.is_initialized()
    at_exit[0]()  # somebody has left it already


def test_a_process_group_of_others_is_theirs(at_exit: list[Callable[[], None]]) -> None:
    make_group()
    try:
        device._join(FABRIC, "cpu")
        assert at_exit == []
    finally:
        dist.destroy_process_group()


def test_after_an_error_nobody_is_waited_for(
    at_exit: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_together()  # of an earlier run
    waiting: list[tuple[float, dict[str, Any]]] = []
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda seconds, **options: waiting.append((seconds, options))
    )
    device._join(FABRIC, "cpu")
    at_exit[0]()
    assert waiting == [(15, {"exit": True, "file": 2})]
    dist.destroy_process_group()
