"""Recipes and configurations: recipe < configuration file < command line, checked against one schema."""

import difflib
import inspect
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from reidkit.errors import ConfigError
from reidkit.runs.config import RunConfig

__all__ = [
    "default_recipe",
    "describe_config",
    "list_recipes",
    "parse_assignment",
    "read_recipe",
    "read_toml",
    "resolve_config",
]

MODES = ("pretrain", "supervised", "uda", "usl")
_SMALL = "small"
_SHORT = reprlib.Repr()  # of wrong values
_SHORT.maxstring = _SHORT.maxother = 200


def list_recipes() -> list[str]:
    """Names of all shipped recipes, `mode/name`."""
    package = resources.files("reidkit")
    return sorted(
        f"{mode}/{file.name.removesuffix('.toml')}"
        for mode in MODES
        for file in (package / mode / "recipes").iterdir()
        if file.name.endswith(".toml")
    )


def default_recipe(mode: str, target: str) -> str:
    """The recipe of a data set, or the one for small image sets."""
    named = f"{mode}/{target}"
    return named if named in list_recipes() else f"{mode}/{_SMALL}"


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a shipped recipe, over those of its `recipe.base` where it names another recipe.

    Raises:
        ConfigError: There is no such recipe.
    """
    names = list_recipes()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown recipe {name!r}{hint} There are {', '.join(names)}")
    mode, stem = name.split("/")
    text = (resources.files("reidkit") / mode / "recipes" / f"{stem}.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)
    about = dict(settings.get("recipe", {}))
    base = read_recipe(about.pop("base")) if "base" in about else {}
    return {**_merge(base, settings), "recipe": {**about, "name": name}, "mode": mode}


def read_toml(path: Path) -> dict[str, Any]:
    """Settings from a file.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse_assignment(text: str) -> dict[str, Any]:
    """`section.name=value` as nested settings; the value is TOML, or a plain string where it is not.

    Raises:
        ConfigError: There is no `=` or no name.
    """
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set {text!r} is not of the form section.name=value, such as clustering.eps=0.5")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()
    for name in reversed(names):
        parsed = {name: parsed}
    return dict(parsed)


def resolve_config(layers: Sequence[Mapping[str, Any]]) -> RunConfig:
    """Merge settings, later layers winning, and check them.

    Raises:
        ConfigError: A name is unknown or a value is out of bounds; all problems are named.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None
    for section, drawn in (("sampler", config.sampler), ("supervised", config.supervised)):
        if drawn.batch_size % drawn.instances:
            raise ConfigError(
                f"{section}.batch_size={drawn.batch_size} is not a multiple of {section}.instances={drawn.instances}; "
                "a batch holds P classes x K instances"
            )
    return config


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _explain(problem: Any) -> str:
    """Describe one problem of a configuration to its user."""
    location = [str(part) for part in problem["loc"]]
    name = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_names(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"unknown setting {name}{hint}; known here: {', '.join(known)}"
    return f"{name}={_SHORT.repr(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _known_names(section: Sequence[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in section:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def describe_config(config: RunConfig) -> str:
    """Format a configuration as TOML: above each setting its meaning and unit, beside it where its value is from.

    That is `recipe`, whose source is given at the top, or `default` where the recipe does not set it.
    """
    name, source = config.recipe.name or "the recipe", config.recipe.source or "none given"
    legend = (
        "Beside each value stands where it is from:\n"
        f"  recipe   {name}; source: {source}\n"
        "  default  what reidkit takes where a recipe says nothing"
    )
    return "\n\n".join([_comment(legend), *_tables(config, "", given=True)])


def _tables(settings: BaseModel, name: str, *, given: bool) -> list[str]:
    """Format settings and the sections within them; all of a section that no recipe has `given` is default."""
    sections = {field: value for field, value in settings if isinstance(value, BaseModel)}
    lines = [_comment(inspect.cleandoc(type(settings).__doc__ or "")), f"[{name}]"] if name else []
    own = [field for field in type(settings).model_fields if field not in sections]
    tables = ["\n".join([*lines, *(_described(settings, field, given=given) for field in own)])]
    for field, section in sections.items():
        inner = given and field in settings.model_fields_set
        tables += _tables(section, f"{name}.{field}".lstrip("."), given=inner)
    return tables


def _described(settings: BaseModel, name: str, *, given: bool) -> str:
    value, description = getattr(settings, name), type(settings).model_fields[name].description or ""
    origin = "recipe" if given and name in settings.model_fields_set else "default"
    # TOML has no null: a setting that is left to the program is shown, but commented out.
    setting = f"# {name} is not set (None)" if value is None else f"{name} = {_toml(value)}  # {origin}"
    return f"{_comment(description)}\n{setting}"


def _comment(text: str) -> str:
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _toml(value: Any) -> str:
    """Format a value on one line; tomli_w gives every item of an array its own line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").rstrip()
