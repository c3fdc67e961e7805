"""The training loop reads like the paper, and stays so."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import reidkit
from reidkit.loop import train, train_epoch
from tests.tiny import SETTINGS

PACKAGE = str(Path(reidkit.__file__).parent)


@pytest.mark.parametrize("function", [train, train_epoch])
def test_the_loops_are_short_and_name_their_paragraphs(function: Callable[..., Any]) -> None:
    lines, _ = inspect.getsourcelines(function)
    assert len(lines) <= 60
    assert len(inspect.signature(function).parameters) <= 8
    assert sum(line.strip().startswith("#") for line in lines) >= 4


def test_few_frames_lie_between_the_command_and_the_optimiser(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `reidkit usl` to `optimizer.step()`, generated wrappers of libraries left out."""
    from reidkit.cli import main

    class SeenError(Exception):
        """Ends the command at its first step."""

    stacks: list[list[str]] = []

    def step(*_: object, **__: object) -> None:
        frame: FrameType | None = sys._getframe()
        stack = []
        while frame is not None:
            if frame.f_code.co_filename.startswith(PACKAGE):
                stack.append(frame.f_code.co_name)
            frame = frame.f_back
        stacks.append(stack[::-1])
        raise SeenError

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    config = tmp_path / "tiny.toml"
    lines = [
        f"[{section}]\n"
        + "\n".join(f"{name} = {list(value) if isinstance(value, tuple) else value!r}" for name, value in table.items())
        for section, table in SETTINGS.items()
    ]
    config.write_text("\n".join(lines).replace("'", '"'))
    arguments = ["usl", "--target", str(people), "--output", str(tmp_path / "run"), "--config", str(config), "--quiet"]
    with pytest.raises(SeenError):
        main(arguments, standalone_mode=False)
    [stack] = stacks
    assert stack[-2:] == ["train", "train_epoch"]
    assert len(stack) <= 6, stack
