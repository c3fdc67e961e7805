"""Packages import each other as CONTRIBUTING.md says."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import reidkit

PACKAGE = Path(reidkit.__file__).parent
LEVELS: tuple[set[str], ...] = (
    {"cli"},
    {"usl", "uda", "supervised", "pretrain", "reporting", "inference", "export"},
    {"loop", "pages"},
    {"runs"},
    {"clustering", "memory", "backbones", "datasets", "synthetic", "evaluation"},
    {"storage", "distributed"},
    {"errors", "config", "cpu", "__about__"},
)
"""Imports run from each to those below it."""
EXCEPTIONS = {
    ("datasets", "synthetic"): "generated people are a data set known by name",
    ("evaluation", "clustering"): "re-ranking encodes neighbours as the Jaccard distance does",
}
"""Imports within a level, and why."""
PACKAGES = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists())
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


def imported(source: str) -> set[str]:
    """All `reidkit.X...` that a module imports, wherever in the file, as the modules that the statements name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "reidkit" else {module}
    return {name for name in names if name.startswith("reidkit.")}


def level(package: str) -> int:
    return next(number for number, packages in enumerate(LEVELS) if package in packages)


def test_the_packages_are_the_known_ones() -> None:
    assert {*PACKAGES, *MODULES} == set().union(*LEVELS)


@pytest.mark.parametrize("package", [*PACKAGES, *MODULES])
def test_imports_run_downwards_and_through_the_package(package: str) -> None:
    folder = PACKAGE / package
    for path in folder.rglob("*.py") if folder.is_dir() else [PACKAGE / f"{package}.py"]:
        for name in imported(path.read_text(encoding="utf-8")):
            other, _, inner = name.removeprefix("reidkit.").partition(".")
            if other == package:
                continue
            where = f"{path.relative_to(PACKAGE)} imports {name}"
            assert level(other) > level(package) or (package, other) in EXCEPTIONS, where
            assert not inner, f"{where}: what {other} gives to others is in its __init__"


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "cli"])
def test_public_names_are_sorted_and_documented(package: str) -> None:
    module = import_module(f"reidkit.{package}")
    assert list(module.__all__) == sorted(module.__all__, key=_ruff_order)
    for name in module.__all__:
        value = getattr(module, name)
        assert value.__doc__ or not callable(value) or hasattr(value, "__origin__")  # type aliases have none


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["usl", "--help"], ["evaluate", "--help"], ["data", "--help"], ["cluster", "--help"]]
)
def test_help_loads_neither_torch_nor_numba(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from reidkit.cli import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'numba', 'numpy', 'rich', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "loaded" not in done.stderr
    assert "Usage" in done.stdout + done.stderr


def test_importing_the_package_loads_no_other() -> None:
    code = "import sys, reidkit; sys.exit(sum(name.startswith('reidkit.') for name in sys.modules) > 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_dependency_is_imported() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[><=\[ ]", text)[0].replace("-", "_").lower() for text in project["dependencies"]}
    modules = {"pillow": "pil", "scikit_learn": "sklearn"}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    imported = {name.lower() for name in re.findall(r"(?:from|import) (\w+)", sources)}
    assert not {name for name in named if modules.get(name, name) not in imported}


def test_more_than_eight_parameters_are_keyword_only_and_public() -> None:
    """The linter counts them (PLR0913); it may be silenced for such functions only."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and "PLR0913" in text.splitlines()[node.lineno - 1]:
                where = f"{path.relative_to(PACKAGE)}: {node.name}"
                if any("click.command" in ast.unparse(decorator) for decorator in node.decorator_list):
                    continue  # a parameter for each option
                assert len(node.args.posonlyargs + node.args.args) <= 8, where
                assert node.name == "__init__" or not node.name.startswith("_"), where


def test_no_file_is_too_long() -> None:
    lengths = {path.name: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert not {name: length for name, length in lengths.items() if length > 500}


def _ruff_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that the linter keeps."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
