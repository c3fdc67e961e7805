"""The public names of a package as Markdown: signatures as they stand in the source, and docstrings.

The source is parsed, not run: annotations stay as short as they were written, and no package is loaded.
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

_WIDTH = 84
"""Signatures above it take a line for each argument."""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):\n((?: .*\n?|\n)+)", re.MULTILINE)
_NAMED = re.compile(r"^(\*{0,2}[\w.]+(?:, [\w.]+)*): (.*)$")


class _Source(NamedTuple):
    """A module of the package."""

    text: str
    tree: ast.Module


class _Found(NamedTuple):
    """The definition of a public name."""

    node: Definition
    about: str
    """Docstring, or the string below an assignment."""
    source: _Source


def document(module: str) -> str:
    """Markdown about a module and all names in its `__all__`.

    Args:
        module: Such as `reidkit.clustering`.

    Raises:
        LookupError: The module has no source, or a public name has no definition.
    """
    tree = _source(module).tree
    names = next(ast.literal_eval(node.value) for node in tree.body if _assigned(node) == "__all__")
    blocks = [_markdown(ast.get_docstring(tree) or "")]
    return "\n\n".join([*blocks, *(_entry(module, name) for name in names if not name.startswith("__"))])


def literal(text: str) -> str:
    """Text that Markdown takes as it is, but for what stands between backticks."""
    parts = re.split(r"(`+[^`]*`+)", text)
    parts[::2] = [re.sub(r"([*_\[\]<])", r"\\\1", part).replace("\\<", "&lt;") for part in parts[::2]]
    return "".join(parts)


@cache
def _source(module: str) -> _Source:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"{module} has no source")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return _Source(text, ast.parse(text))


def _assigned(node: ast.stmt) -> str:
    """The name that a statement assigns, if it assigns one."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else ""


def _find(module: str, name: str) -> _Found:
    """The definition of a name, in the module or in the one that it is imported from."""
    source = _source(module)
    body = source.tree.body
    for place, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _Found(node, ast.get_docstring(node) or "", source)
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigned(node) == name:
            return _Found(node, _string_below(body, place), source)
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return _find(node.module, name)
    raise LookupError(f"{module} has no {name}")


def _string_below(body: list[ast.stmt], place: int) -> str:
    """The docstring of an assignment or a field."""
    below = body[place + 1] if place + 1 < len(body) else None
    text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _entry(module: str, name: str) -> str:
    node, about, source = _find(module, name)
    if isinstance(node, ast.ClassDef):
        shown, members = _class_signature(node, source), list(_members(node, source))
    elif isinstance(node, ast.FunctionDef):
        shown, members = _signature(node, source), []
    else:
        shown, members = _assignment(node), []
    return "\n\n".join([f"## {name} {{ #{module}.{name} }}", _code(shown), _markdown(about), *members])


def _assignment(node: ast.Assign | ast.AnnAssign) -> str:
    """`NAME = value`; of a long value the type alone."""
    written = ast.unparse(node)
    if len(written) <= _WIDTH:
        return written
    if isinstance(node, ast.AnnAssign):
        return f"{_assigned(node)}: {ast.unparse(node.annotation)}"
    return f"{_assigned(node)}: {type(node.value).__name__.removesuffix('Comp').lower()}"


def _signature(node: ast.FunctionDef, source: _Source) -> str:
    """`name(a, b=1) -> type` as it is written, on one line if it is short."""
    lines = source.text.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
    written = " ".join(re.sub(r"\s+# .*", "", line).strip() for line in lines)
    written = re.sub(r",? \)", ")", written.replace("( ", "("))
    written = re.sub(r"\((self|cls)(, |(?=\)))", "(", written.removeprefix("def ").removesuffix(":"), count=1)
    return written if len(written) <= _WIDTH else _split(written)


def _split(signature: str) -> str:
    """A signature with a line for each argument."""
    name, _, rest = signature.partition("(")
    inside, _, returned = rest.rpartition(") -> ")
    arguments, depth, quoted = [""], 0, False
    for character in inside:
        quoted ^= character == '"'
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0 and not quoted:
            arguments.append("")
        else:
            arguments[-1] += character
    return "\n".join([f"{name}(", *(f"    {argument.strip()}," for argument in arguments), f") -> {returned}"])


def _class_signature(node: ast.ClassDef, source: _Source) -> str:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return _signature(method, source).replace("__init__", node.name, 1).removesuffix(" -> None")
    return ast.unparse(ast.ClassDef(node.name, node.bases, [], [], [])).rstrip(":")


def _members(node: ast.ClassDef, source: _Source) -> Iterator[str]:
    """Documented fields as a list, then properties and methods."""
    for place, field in enumerate(node.body):
        about = _string_below(node.body, place)
        if isinstance(field, ast.AnnAssign) and about:
            yield f"`{_field(field)}`\n:   {_indented(_markdown(about))}"
    for method in node.body:
        about = ast.get_docstring(method) if isinstance(method, ast.FunctionDef) else None
        if isinstance(method, ast.FunctionDef) and about and not re.match(r"_(?!_call__)", method.name):
            shown = _signature(method, source)
            if any("property" in ast.unparse(decorator) for decorator in method.decorator_list):
                shown = shown.replace("() ->", ":")
            name = method.name.replace("_", "\\_")  # else Markdown takes __call__ for bold text
            yield f"### .{name} {{ data-toc-label='.{name}' }}\n\n{_code(shown)}\n\n{_markdown(about)}"


def _field(node: ast.AnnAssign) -> str:
    """`name: type = default`; of a pydantic field with bounds the default alone."""
    declared, value = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}", node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field":
        defaults = [*value.args, *(keyword.value for keyword in value.keywords if keyword.arg == "default")]
        value = defaults[0] if defaults else None
    return declared if value is None else f"{declared} = {ast.unparse(value)}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _markdown(docstring: str) -> str:
    """A docstring in Google style: paragraphs, then lists of arguments, results and errors."""
    blocks: list[str] = []
    text, *sections = _SECTION.split(docstring)  # (title, items, text) of each section
    for title, items, after in [("", "", text), *zip(*[iter(sections)] * 3, strict=True)]:
        blocks += [f"**{title}**", _items(inspect.cleandoc(items))] if title else []
        blocks += [block if block.startswith("    ") else _prose(block) for block in re.split(r"\n\s*\n", after)]
    return "\n\n".join(block for block in blocks if block)


def _prose(text: str) -> str:
    return re.sub("::$", ":", literal(text.strip("\n")))


def _items(text: str) -> str:
    """`name: meaning` lines as a definition list; anything else as a paragraph."""
    items = re.sub(r"\n+\s+", " ", text).splitlines()
    named = [_NAMED.match(item) for item in items]
    if not all(named):
        return literal(" ".join(items))
    return "\n\n".join(f"`{match[1]}`\n:   {literal(match[2])}" for match in named if match)
