"""What could run code is called nowhere in the package without its guard."""

import ast
from collections.abc import Iterator
from pathlib import Path

import reidkit

GUARDED = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False", "read_array": "allow_pickle=False"}
OF_ANY = {"Unpickler", "read_pickle"}
OF_PYTHON = {"__import__", "eval", "exec"}
HARMLESS = {"dumps", "UnpicklingError"}
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "yaml"}


def calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """The object, the name and the call of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            target = node.func
            owner = target.value if isinstance(target, ast.Attribute) else None
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            yield ast.unparse(owner) if owner else "", name, node


def test_unpicklers_find_no_class() -> None:
    """Whatever is pickled, `find_class` is what would import and so run it."""
    for path in sorted(Path(reidkit.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Unpickler") for base in node.bases):
                (method,) = node.body[1:]
                assert isinstance(method, ast.FunctionDef), path
                assert method.name == "find_class", path
                assert isinstance(method.body[0], ast.Raise), path


def test_what_can_run_code_is_called_nowhere_without_its_guard() -> None:
    """Whoever adds a place that reads an array or a checkpoint meets this test."""
    found = []
    for path in sorted(Path(reidkit.__file__).parent.rglob("*.py")):
        for owner, name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            guard = GUARDED.get(f"{owner}.{name}" if owner in ("torch", "np") else name)
            if guard is not None:
                assert guard in {ast.unparse(keyword) for keyword in call.keywords}, f"{path.name}:{call.lineno}"
            elif name in OF_ANY or (owner in MODULES and name not in HARMLESS) or (not owner and name in OF_PYTHON):
                found.append(f"{path.name}:{call.lineno}: {name}")
    assert not found
