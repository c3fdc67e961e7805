"""The public names of a room as Markdown: signatures as they are written in the source, and docstrings.

The source is read, not run: annotations stay as short as their authors wrote them, and nothing is loaded.
"""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["document", "literal"]

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign

_WIDTH = 84  # longer signatures take a line for each argument
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
_NAMED = re.compile(r"^(\*{0,2}[\w.]+(?:, [\w.]+)*): (.*)$", re.DOTALL)


class _Found(NamedTuple):
    """What a public name stands for."""

    node: Definition
    about: str
    """Docstring, or the string below an assignment."""


def document(module: str) -> str:
    """Markdown about all names in a module's `__all__`, or about one function `module:name`.

    Args:
        module: Such as `reidkit.clustering`.

    Raises:
        LookupError: The module has no source, or a public name is defined nowhere.
    """
    tree = _tree(module)
    blocks = [_markdown(ast.get_docstring(tree) or "")]
    blocks += [_entry(module, name) for name in _public(tree) if not name.startswith("__")]
    return "\n\n".join(blocks)


def literal(text: str) -> str:
    """Text that Markdown takes as it is, but for what stands between backticks."""
    parts = re.split(r"(`+[^`]*`+)", text)
    parts[::2] = [re.sub(r"([*_\[\]<])", r"\\\1", part).replace("\\<", "&lt;") for part in parts[::2]]
    return "".join(parts)


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"{module} has no source")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _public(tree: ast.Module) -> list[str]:
    found = next(value for name, value in _assignments(tree.body) if name == "__all__")
    return list(ast.literal_eval(found)) if found is not None else []


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    for node in body:
        if isinstance(node, ast.Assign):
            yield from ((ast.unparse(target), node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target), node.value


def _find(module: str, name: str) -> _Found:
    """Where a name is defined: in the module, or where the module has it from."""
    body = _tree(module).body
    for place, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _Found(node, ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in dict(_assignments([node])):
            return _Found(node, _string_below(body, place))
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return _find(node.module, name)
    raise LookupError(f"{module} has no {name}")


def _string_below(body: list[ast.stmt], place: int) -> str:
    below = body[place + 1] if place + 1 < len(body) else None
    is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    text = below.value.value if is_text else ""  # type: ignore[union-attr]  # is_text says so
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _entry(module: str, name: str) -> str:
    node, about = _find(module, name)
    heading = f"## {name} {{ #{module}.{name} }}"
    if isinstance(node, ast.ClassDef):
        return "\n\n".join([heading, _code(_class_signature(node)), _markdown(about), *_members(node)])
    if isinstance(node, ast.FunctionDef):
        return "\n\n".join([heading, _code(_signature(node)), _markdown(about)])
    written = ast.unparse(node)
    shown = written if len(written) <= _WIDTH else f"{ast.unparse(_target(node))}: {_kind(node)}"
    return "\n\n".join([heading, _code(shown), _markdown(about)])


def _target(node: ast.Assign | ast.AnnAssign) -> ast.expr:
    return node.targets[0] if isinstance(node, ast.Assign) else node.target


def _kind(node: ast.Assign | ast.AnnAssign) -> str:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.annotation)
    return "dict" if isinstance(node.value, ast.Dict | ast.DictComp) else type(node.value).__name__


def _signature(node: ast.FunctionDef, *, name: str = "", method: bool = False) -> str:
    """`name(a, b=1) -> kind`, on one line if it is short."""
    arguments = _arguments(node.args)[int(method) :]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and not name else ""
    called = name or node.name
    line = f"{called}({', '.join(arguments)}){returns}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{called}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _arguments(given: ast.arguments) -> list[str]:
    """Arguments one by one, as they are written."""
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    shown = [_argument(one, default) for one, default in zip(plain, defaults, strict=True)]
    if given.posonlyargs:
        shown.insert(len(given.posonlyargs), "/")
    if given.vararg is not None:
        shown.append(f"*{_argument(given.vararg, None)}")
    elif given.kwonlyargs:
        shown.append("*")
    shown += [_argument(one, default) for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*shown, f"**{_argument(given.kwarg, None)}"] if given.kwarg is not None else shown


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(one.annotation)}" if one.annotation is not None else ""
    value = "" if default is None else f" = {ast.unparse(default)}" if kind else f"={ast.unparse(default)}"
    return f"{one.arg}{kind}{value}"


def _class_signature(node: ast.ClassDef) -> str:
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if made is not None:
        return _signature(made, name=node.name, method=True)
    bases = ", ".join(map(ast.unparse, node.bases))
    return f"class {node.name}({bases})" if bases else f"class {node.name}"


def _members(node: ast.ClassDef) -> Iterator[str]:
    """Documented fields as a list, then properties and methods."""
    for place, field in enumerate(node.body):
        about = _string_below(node.body, place)
        if isinstance(field, ast.AnnAssign) and about:
            yield f"`{_field(field)}`\n:   {_indented(_markdown(about))}"
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and _is_public(method):
            about = _markdown(ast.get_docstring(method) or "")
            yield f"### .{method.name} {{ data-toc-label='.{method.name}' }}\n\n{_code(_called(method))}\n\n{about}"


def _field(node: ast.AnnAssign) -> str:
    """`name: kind = default`; of a pydantic field with bounds the default alone."""
    declared, value = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}", node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field":
        value = (
            value.args[0] if value.args else next((one.value for one in value.keywords if one.arg == "default"), None)
        )
    return declared if value is None else f"{declared} = {ast.unparse(value)}"


def _is_public(method: ast.FunctionDef) -> bool:
    return (not method.name.startswith("_") or method.name == "__call__") and bool(ast.get_docstring(method))


def _called(method: ast.FunctionDef) -> str:
    decorators = {ast.unparse(one) for one in method.decorator_list}
    if decorators & {"property", "cached_property"}:
        return f"{method.name}: {ast.unparse(method.returns)}" if method.returns is not None else method.name
    return _signature(method, method="staticmethod" not in decorators)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _markdown(docstring: str) -> str:
    """A docstring in Google style: paragraphs, then lists of arguments, results and errors."""
    blocks, section = [], ""
    for block in re.split(r"\n\s*\n", docstring):
        lines = block.split("\n")
        for place, line in enumerate(lines):
            if _SECTION.match(line):
                blocks.append(_prose(lines[:place]))
                section, lines = line[:-1], lines[place + 1 :]
                blocks.append(f"**{section}**")
                break
        indented = all(line.startswith("    ") for line in lines)
        if not (section and indented):
            section = ""
        blocks.append(_items(lines) if section else _verbatim(lines) if indented else _prose(lines))
    return "\n\n".join(block for block in blocks if block)


def _prose(lines: list[str]) -> str:
    text = literal("\n".join(lines))
    return text.removesuffix("::") + ":" if text.endswith("::") else text


def _verbatim(lines: list[str]) -> str:
    return "\n".join(lines) if any(line.strip() for line in lines) else ""


def _items(lines: list[str]) -> str:
    """`name: meaning` lines as a definition list; anything else as a paragraph."""
    items: list[str] = []
    for line in inspect.cleandoc("\n".join(lines)).split("\n"):
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line)
    named = [_NAMED.match(item) for item in items]
    if not all(named):
        return literal(" ".join(items))
    return "\n\n".join(f"`{match[1]}`\n:   {literal(match[2])}" for match in named if match)
