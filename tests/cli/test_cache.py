import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reidkit.cli.data import cache
from reidkit.datasets.store import list_stores, open_images
from reidkit.errors import DataError
from tests.datasets.test_decoding import noise_image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache" / "images"


@pytest.fixture
def stores(folder: Path, tmp_path: Path) -> Path:
    """Two stores, `old` not used for years."""
    path = noise_image(tmp_path / "a.png")
    for number, label in ((1, "old"), (2, "new")):
        open_images([path] * number, (8, 4), folder=folder, label=label)
    (old,) = (record.key for record in list_stores(folder) if record.label == "old")
    os.utime(folder / old / "index.json", (1, 1))
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cache, arguments)


def labels(folder: Path) -> list[str]:
    return [record.label for record in list_stores(folder)]


def test_without_stores_it_says_so(folder: Path) -> None:
    assert f"no decoded images are stored in {folder}" in run().output
    assert "freed 0.00 GiB" in run("--clear").output


def test_the_table_names_every_store(stores: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    for record in list_stores(stores):
        assert record.key in done.output
    assert "8x4" in done.output
    assert "1970-01-01" in done.output
    assert labels(stores) == ["old", "new"]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--clear"], []),
        (["--older-than", "30"], ["new"]),
        (["--keep", "0"], []),
        (["--keep", "1"], ["old", "new"]),
        (["--keep", "0", "--older-than", "30"], ["new"]),
    ],
)
def test_conditions_choose_what_is_removed(stores: Path, arguments: list[str], left: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert labels(stores) == left
    assert ("removed" in done.output) == (len(left) < 2)
    assert "freed 0.00 GiB" in done.output


def test_stores_are_removed_by_key_but_not_in_use(stores: Path, tmp_path: Path) -> None:
    old, new = list_stores(stores)
    images = open_images([tmp_path / "a.png"] * 2, (8, 4), folder=stores)
    done = run("--evict", old.key[:8], "--evict", new.key)
    assert "1 of 1 stores in use" in done.output
    assert labels(stores) == ["new"]
    assert "in use" in run().output
    assert len(images.pixels) == 2


def test_wrong_requests_are_refused(stores: Path) -> None:
    assert isinstance(run("--evict", "nope").exception, DataError)
    assert run("--clear", "--keep", "1").exit_code == 2
    assert run("--keep", "-1").exit_code == 2
    assert labels(stores) == ["old", "new"]
    assert "reidkit data cache --older-than 30" in run("--help").output
