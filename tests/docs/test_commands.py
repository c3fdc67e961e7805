"""Every command line in the documentation is one that reidkit accepts."""

from itertools import pairwise
from pathlib import Path

import click
import pytest

from reidkit.cli import cli
from reidkit.runs import parse_assignment, resolve_config
from tests.docs.pages import CONTRIBUTING, DOCS, PAGES, README, blocks, commands, inline_commands, name_of

TEXTS = [*PAGES, README, CONTRIBUTING]


def parse(words: list[str]) -> None:
    """Parse a command without running it; raises click's errors."""
    command, context = cli, click.Context(cli, info_name="reidkit")
    rest = words
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found  # type: ignore[assignment]  # a group or a command
    command.make_context(name, list(rest))


def options_of(words: list[str]) -> set[str]:
    """All options of the command that begins with these words."""
    command: click.Command = cli
    for word in words:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_commands_parse(page: Path) -> None:
    for block in blocks(page):
        for words in commands(block.text) if block.language == "bash" else ():
            try:
                parse(words)
            except click.ClickException as error:
                pytest.fail(f"{name_of(page)}: reidkit {' '.join(words)}: {error.format_message()}")


def test_commands_are_found_however_they_are_launched() -> None:
    found = [words for page in PAGES for block in blocks(page) for words in commands(block.text)]
    assert len(found) > 50
    assert {words[0] for words in found} >= set(cli.commands) - {"export", "doctor"}
    launched = (DOCS / "processes.md").read_text(encoding="utf-8").count("-m reidkit")
    here = [words for block in blocks(DOCS / "processes.md") for words in commands(block.text)]
    assert len(here) == launched == 5


@pytest.mark.parametrize("words", [["usl", "--eps", "much"], ["usl", "--epsilon", "1"], ["search", "a.pt"], ["us"]])
def test_wrong_commands_do_not_parse(words: list[str]) -> None:
    with pytest.raises(click.ClickException):
        parse(words)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_commands_within_the_text_exist(page: Path) -> None:
    for words in inline_commands(page):
        if words[0] in ("…", "--help"):
            continue
        assert words[0] in cli.commands, words
        unknown = {word for word in words if word.startswith("-")} - options_of(words)
        assert not unknown, f"reidkit {' '.join(words)} has no {', '.join(unknown)}"


def test_settings_that_are_set_exist() -> None:
    for page in TEXTS:
        for block in blocks(page):
            for words in commands(block.text):
                given = [value for option, value in pairwise(words) if option == "--set"]
                resolve_config([parse_assignment(value) for value in given])
