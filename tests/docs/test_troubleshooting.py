"""The messages that the documentation explains are messages that reidkit has."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import reidkit
from tests.docs.pages import DOCS

HEADINGS = re.findall(r"^### (.+)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
OF_OTHERS = {"CUDA out of memory"}


@cache
def messages() -> list[str]:
    """All texts of the package, with … for what is filled in."""
    found = []
    for path in Path(reidkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [one.value if isinstance(one, ast.Constant) else "…" for one in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[\d.]*[sdgf]", "…", node.value))
    return found


def fits(heading: str, message: str) -> bool:
    """Whether the words of a heading occur in a message, in their order."""
    return re.search(".*".join(map(re.escape, heading.split("…"))), message, re.DOTALL) is not None


@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading not in OF_OTHERS])
def test_a_heading_is_a_message_of_the_package(heading: str) -> None:
    assert any(fits(heading, message) for message in messages())


def test_there_are_at_least_thirty_and_no_two_alike() -> None:
    assert len(set(HEADINGS)) == len(HEADINGS) >= 30


def test_a_message_that_nobody_writes_is_told_apart() -> None:
    assert not any(fits("the moon is … of green cheese", message) for message in messages())
