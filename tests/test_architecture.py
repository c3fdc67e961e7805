"""The house stands as CONTRIBUTING.md draws it."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import reidkit

PACKAGE = Path(reidkit.__file__).parent
GROUND_FLOOR = {"clustering", "memory", "backbones", "datasets", "evaluation"}
MODES = {"pretrain", "supervised", "uda", "usl"}
MAY_IMPORT = {
    **{room: set[str]() for room in GROUND_FLOOR},
    "loop": GROUND_FLOOR,
    **dict.fromkeys(MODES, {"loop"} | GROUND_FLOOR),
    "reporting": {"loop"} | GROUND_FLOOR,
    "inference": {"loop"} | GROUND_FLOOR,
    "cli": MODES | {"reporting", "inference", "loop"} | GROUND_FLOOR,
}
EVERYWHERE = {"errors", "config", "__about__", "processor", "reading"}
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists())


def imported_rooms(source: str) -> set[str]:
    """Names X of all `reidkit.X` that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "reidkit" else {module}
    return {name.split(".")[1] for name in names if name.startswith("reidkit.")}


def test_the_rooms_are_the_known_ones() -> None:
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    allowed = MAY_IMPORT[room] | EVERYWHERE | {room}
    for path in (PACKAGE / room).rglob("*.py"):
        forbidden = imported_rooms(path.read_text(encoding="utf-8")) - allowed
        assert not forbidden, f"{path.relative_to(PACKAGE)} imports {sorted(forbidden)}"


def test_what_all_rooms_share_imports_no_room() -> None:
    for name in EVERYWHERE:
        assert imported_rooms((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) <= EVERYWHERE


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_public_doors_are_sorted_and_open(room: str) -> None:
    module = import_module(f"reidkit.{room}")
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


def test_importing_the_package_loads_no_room() -> None:
    code = "import sys, reidkit; sys.exit(sum(name.startswith('reidkit.') for name in sys.modules) > 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_too_long() -> None:
    lengths = {path.name: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert not {name: length for name, length in lengths.items() if length > 500}


def _ruff_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that the linter keeps."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
