"""Where and by whom a run is clustered."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reidkit.clustering import create_clusterer
from reidkit.distributed import ProcessGroup
from reidkit.loop import PseudoLabeler, Trainer, build_model, cluster_fields, create_fabric, labels
from reidkit.loop.progress import Progress
from reidkit.usl import train_usl
from tests.tiny import tiny_config, tiny_run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Options with which clusterers were created."""
    options: list[dict[str, Any]] = []

    def spy(config: Any, **settings: Any) -> Any:
        options.append(settings)
        return create_clusterer(config, **settings)

    monkeypatch.setattr(labels, "create_clusterer", spy)
    return options


def test_a_run_clusters_on_its_device(people: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    config = tiny_config(people)
    train_usl(config, tiny_run(tmp_path / "run", config))
    assert asked == [{"device": "cpu", "group": None}] * 2


def test_the_labeler_of_a_run_has_its_device_and_processes(asked: list[dict[str, Any]]) -> None:
    config = tiny_config("synthetic")
    trainer = Trainer(create_fabric("cpu", "32"), build_model(config.backbone, 1), config, Progress())
    fabric: Any = type("Fabric", (), {"device": torch.device("cuda", 1)})()
    trainer.fabric, trainer.group = fabric, ProcessGroup("all of them", 1, 2)
    labeler = cluster_fields(trainer)["labeler"]
    assert isinstance(labeler, PseudoLabeler)
    with pytest.raises(Exception):  # noqa: B017, PT011  (neither the device nor the group is there)
        labeler(torch.eye(4).numpy(), 1)
    assert asked == [{"device": "cuda:1", "group": "all of them"}]


@pytest.mark.parametrize(("setting", "expected"), [("", "cuda:1"), ("cpu", "cpu")])
def test_the_settings_may_name_another_device(setting: str, expected: str) -> None:
    config = tiny_config("synthetic", clustering={"device": setting} if setting else {}).clustering
    assert create_clusterer(config, device="cuda:1").device == expected
