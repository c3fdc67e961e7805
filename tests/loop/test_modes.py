"""The modes are wiring: one outer loop, one training epoch, whatever is trained on."""

import ast
from pathlib import Path
from typing import Any

import pytest

import reidkit
from reidkit.loop import train_epoch, training
from reidkit.supervised import train_supervised
from reidkit.uda import train_uda
from reidkit.usl import train_usl
from tests.tiny import tiny_config, tiny_run
from tests.uda.test_training import SUPERVISED

PACKAGE = Path(reidkit.__file__).parent
TRAINING = {"backward", "step", "zero_grad", "train_epoch"}


@pytest.mark.parametrize("mode", ["usl", "supervised", "uda-finetune", "uda-joint"])
def test_every_mode_trains_by_the_same_epoch(
    people: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    calls = []

    def spy(*arguments: Any, **settings: Any) -> Any:
        calls.append(arguments)
        return train_epoch(*arguments, **settings)

    monkeypatch.setattr(training, "train_epoch", spy)
    name, _, strategy = mode.partition("-")
    config = tiny_config(
        people,
        mode=name,
        data={"target": str(people), "source": str(others)},
        supervised=SUPERVISED | {"epochs": 1},
        uda={"strategy": strategy or "finetune"},
    )
    train: Any = {"usl": train_usl, "supervised": train_supervised, "uda": train_uda}[name]
    history = train(config, tiny_run(tmp_path / "run", config))
    assert len(calls) == config.training.epochs == len(history) - 1


def test_no_mode_has_a_loop_of_its_own() -> None:
    """Weights change in one function of the whole package, and epochs follow each other in one."""
    where: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in TRAINING:
                    where.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    assert where["train_epoch"] == {"loop/training.py"}
    assert where["backward"] == {"loop/epoch.py"}
    assert where["step"] == {"loop/epoch.py"}
    for mode in ("usl", "supervised", "uda"):
        for path in (PACKAGE / mode).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)], path
