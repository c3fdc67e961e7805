"""The examples of the documentation run as they are printed."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reidkit.cli import cli
from reidkit.usl import train_usl
from tests.docs.pages import DOCS, PAGES, blocks, commands, name_of
from tests.inference.conftest import draw_images
from tests.tiny import tiny_config, tiny_people, tiny_run

MARKED = [page for page in PAGES if any(block.mark for block in blocks(page))]
CHAIN = DOCS / "chain.md"
QUICK = [page for page in MARKED if page != CHAIN]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages assume: `people`, two runs on them, and photos."""
    folder = tmp_path_factory.mktemp("workshop")
    people = tiny_people(folder / "people")
    config = tiny_config(people)
    (folder / "runs").mkdir()
    run = tiny_run(folder / "runs" / "usl-people", config)
    train_usl(config, run)
    shutil.copytree(run.path, folder / "runs" / "usl-people-2")
    draw_images(folder / "photos", [f"{letter}.jpg" for letter in "abcdefghijklmnop"])
    return folder


@pytest.fixture(autouse=True)
def in_workshop(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test in the workshop, and restore the logger's level after it."""
    monkeypatch.chdir(workshop)
    logger = logging.getLogger("reidkit")
    level = logger.level
    yield
    logger.setLevel(level)


def run_commands(script: str) -> None:
    for words in commands(script):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, f"reidkit {' '.join(words)}:\n{done.output}{done.exception!r}"


@pytest.mark.parametrize("page", QUICK, ids=name_of)
def test_marked_blocks_run_in_their_order(page: Path) -> None:
    run_page(page)


def run_page(page: Path) -> None:
    marked = [block for block in blocks(page) if block.mark]
    if page.stem == "clustering":
        # The command line is shown first but reads the features that Python writes.
        marked.sort(key=lambda block: block.language != "python")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in marked:
        if block.mark.startswith("save: "):
            Path(block.mark.removeprefix("save: ")).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            run_commands(block.text)
        else:
            exec(compile(block.text, name_of(page), "exec"), names)


@pytest.mark.slow
def test_the_chain_runs_as_printed_and_writes_its_files() -> None:
    run_page(CHAIN)
    kept = Path("cfs50.txt").read_text(encoding="utf-8").splitlines()
    images = list(Path("crowd", "bounding_box_train").glob("*.jpg"))
    assert len(kept) == -(-len(images) // 2)
    for run in ("first", "finetuned", "second", "usl", "uda", "supervised"):
        assert (Path("runs") / run / "report.html").exists()
    assert Path("comparison.html").exists()


def test_there_are_examples_on_the_pages_that_need_them() -> None:
    expected = {f"docs/{name}.md" for name in ("tutorial", "chain", "clustering", "api/index")}
    assert {name_of(page) for page in MARKED} >= expected
