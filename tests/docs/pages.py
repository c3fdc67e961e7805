"""Pages of the documentation: their blocks of code and their commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>run|save: [\w.]+) -->\n)?(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"`(reidkit [^`\n]+)`")


class Block(NamedTuple):
    """A fenced block."""

    mark: str
    """`run`, `save: FILE`, or empty."""
    language: str
    text: str


def name_of(page: Path) -> str:
    """Path of a page, relative to the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(one["mark"] or "", one["language"], one["text"]) for one in found]


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of `reidkit` in every command of a shell script, launched by torchrun or not."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["reidkit"] and "reidkit" in words:
            before = words.index("reidkit")
            if words[before - 1] == "-m" or "=" in words[0]:
                words = words[before:]
        if words[:1] == ["reidkit"]:
            yield [word for word in words[1:] if word != "$more"]


def inline_commands(page: Path) -> list[list[str]]:
    """Arguments of `reidkit` in all commands within the text, which may be parts of commands."""
    return [shlex.split(text)[1:] for text in _INLINE.findall(page.read_text(encoding="utf-8"))]
