"""Every fault in the documentation names its tests, and they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| fault |")
]


def test_there_are_rows() -> None:
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=[row.split(" | ")[0] for row in ROWS])
def test_every_row_names_its_tests(row: str) -> None:
    tests = row.split(" | ")[3]
    for file, names in re.findall(r"`([\w/]+\.py)`(?:: ((?:`test_\w+`(?:, )?)+))?", tests):
        path = ROOT / file if "/" in file else ROOT / "tests" / "faults" / file
        defined = set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert set(re.findall(r"`(\w+)`", names)) <= defined
    assert re.search(r"`(\w|/)+\.py`", tests)
