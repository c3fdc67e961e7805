"""The messages that the documentation explains exist in the package."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import reidkit
from tests.docs.pages import DOCS

HEADINGS = re.findall(r"^### (.+)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
OF_PYTORCH = {"CUDA out of memory"}


@cache
def messages() -> list[str]:
    """All strings of the package, with … for the parts that are filled in."""
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
    """Whether the words of a heading occur in a message in the same order."""
    return re.search(".*".join(map(re.escape, heading.split("…"))), message, re.DOTALL) is not None


@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading not in OF_PYTORCH])
def test_a_heading_is_a_message_of_the_package(heading: str) -> None:
    assert any(fits(heading, message) for message in messages())


def test_there_are_at_least_thirty_headings_and_no_duplicate() -> None:
    assert len(set(HEADINGS)) == len(HEADINGS) >= 30


def test_a_message_that_does_not_exist_is_not_found() -> None:
    assert not any(fits("the moon is … of green cheese", message) for message in messages())
