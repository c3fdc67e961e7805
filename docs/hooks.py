"""Parts of pages that are generated from the package, so that they agree with it.

A line `<!-- generated: NAME -->` or `<!-- generated: NAME ARGUMENT -->` in a page is replaced by the result of
`GENERATORS[NAME]`. MkDocs finds this file by `hooks` in mkdocs.yml.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError
from pydantic import BaseModel

# MkDocs loads a hook by its path, without its folder.
sys.path.insert(0, str(Path(__file__).parent))

import public_api

from reidkit.cli import cli
from reidkit.datasets import CATALOG, SYNTHETIC
from reidkit.runs import RunConfig, list_recipes, read_recipe

_MARK = re.compile(r"^<!-- generated: (\w+)(?: ([\w.]+))? -->$", re.MULTILINE)
_SPLITS = ("train", "query", "gallery")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts; MkDocs calls this for every page.

    Raises:
        PluginError: A page names a generator that does not exist.
    """
    return _MARK.sub(_generated, markdown)


def _generated(mark: re.Match[str]) -> str:
    name, argument = mark.groups()
    if name not in GENERATORS:
        raise PluginError(f"{mark[0]}: no generator is called {name!r}; there are {', '.join(GENERATORS)}")
    return GENERATORS[name](argument or "")


def _recipes(mode: str) -> str:
    """Table of the recipes of a mode: data, model and the paper's metrics."""
    rows = []
    for name in list_recipes():
        if name.startswith(f"{mode}/"):
            config = RunConfig.model_validate(read_recipe(name))
            height, width = config.backbone.image_size
            model = f"`{config.backbone.name}` {height}x{width}"
            published = " / ".join(re.findall(r"(?:mAP|Rank-1) ([\d.]+)", config.recipe.expected))
            rows.append((f"`{name}`", _plain(config.recipe.description), model, f"{config.training.epochs}", published))
    columns = 5 if any(row[-1] for row in rows) else 4
    headings = ("recipe", "for", "backbone", "epochs", "mAP / Rank-1")
    return _table(headings[:columns], [row[:columns] for row in rows])


def _settings(_: str) -> str:
    """Table of every setting, section by section."""
    return "\n\n".join(
        f"### {heading} {{ #{heading.replace(' ', '-')} }}\n\n{_plain(about)}\n\n"
        + _table(("setting", "default", "meaning"), rows)
        for heading, about, rows in _sections(RunConfig, "")
        if rows and heading != "recipe"
    )


def _sections(model: type[BaseModel], name: str) -> Iterator[tuple[str, str, Sequence[tuple[str, ...]]]]:
    """(name, docstring, rows) of a section of the settings and of those within it."""
    inner, rows = [], []
    for key, field in model.model_fields.items():
        full = f"{name}.{key}" if name else key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner.append((field.annotation, full))
        else:
            default = "not set" if field.default is None else f"`{_value(field.default)}`"
            rows.append((f"`{full}`", default, _plain(field.description or "")))
    yield name or "general", model.__doc__ or "", rows
    for section, full in inner:
        yield from _sections(section, full)


def _value(default: object) -> str:
    """A default as it is typed after `--set KEY=`."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(map(_value, default))}]"
    return f'"{default}"' if isinstance(default, str) else f"{default}"


def _catalog(_: str) -> str:
    """Table of the data sets known by name, with published counts."""
    rows = []
    for entry in CATALOG.values():
        counts = (f"{entry.expected[split][1]:,}" if split in entry.expected else "" for split in _SPLITS)
        cameras = f"{entry.cameras}" if entry.cameras else ""
        places = " or ".join(f"`{entry.folders[0]}/{layout.marker}`" for layout in entry.layouts)
        rows.append((f"`{entry.name}`", entry.title, *counts, cameras, places))
    return _table(("name", "data set", *_SPLITS, "cameras", "path below the data root"), rows)


def _access(_: str) -> str:
    """How each data set is obtained, one item for each way."""
    names: dict[str, list[str]] = {}
    for entry in CATALOG.values():
        names.setdefault(entry.access, []).append(f"`{entry.name}`")
    notices = [f'!!! warning "{entry.title}"\n    {entry.notice}.' for entry in CATALOG.values() if entry.notice]
    return "\n".join([*(f"* {', '.join(sets)}: {_plain(access)}." for access, sets in names.items()), "", *notices])


def _synthetic(_: str) -> str:
    """Table of the generated sets."""
    rows = []
    for name, config in SYNTHETIC.items():
        counts = map(str, (config.train_identities, config.test_identities, config.cameras))
        rows.append((f"`{name}`", config.style, *counts, f"{config.width}x{config.height}"))
    return _table(("name", "style", "training people", "test people", "cameras", "pixels, W x H"), rows)


def _commands(_: str) -> str:
    """The output of `--help` of every command."""
    return "\n\n".join(_help(command, f"reidkit {name}") for name, command in cli.commands.items())


def _help(command: click.Command, name: str) -> str:
    if isinstance(command, click.Group):
        return "\n\n".join(_help(inner, f"{name} {key}") for key, inner in command.commands.items())
    context = click.Context(command, info_name=name, max_content_width=96, terminal_width=96)
    return f"## {name} {{ #{name.replace(' ', '-')} }}\n\n```text\n{command.get_help(context)}\n```"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text of one paragraph that Markdown takes literally, except for code."""
    return public_api.literal(" ".join(text.split()))


GENERATORS: dict[str, Callable[[str], str]] = {
    "access": _access,
    "api": public_api.document,
    "catalog": _catalog,
    "commands": _commands,
    "recipes": _recipes,
    "settings": _settings,
    "synthetic": _synthetic,
}
