"""The site builds without a warning and needs no network."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reidkit.datasets import CATALOG
from reidkit.runs import list_recipes
from tests.docs.pages import DOCS, PAGES

ROOMS = ("backbones", "clustering", "datasets", "evaluation", "inference", "loop", "memory")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'reidkit[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(DOCS.parent / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*command, "-d", str(folder)], capture_output=True, text=True, check=False, env=environment, cwd=DOCS.parent
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Sources(HTMLParser):
    """Addresses that a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        fetched = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
        if tag in fetched and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get(fetched[tag]) or "")


def test_every_page_is_there_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in PAGES:
        html = site / page.relative_to(DOCS).with_suffix(".html")
        sources = _Sources()
        sources.feed(html.read_text(encoding="utf-8"))
        assert sources.found
        elsewhere = [address for address in sources.found if re.match(r"(\w+:)?//", address)]
        assert not elsewhere, f"{html.name}: {elsewhere}"


def test_nothing_generated_is_missing(site: Path) -> None:
    recipes = (site / "recipes.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in recipes for name in list_recipes())
    assert "<code>clustering.min_samples</code>" in recipes
    datasets = (site / "datasets.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in datasets for name in CATALOG)
    assert "--finetuned" in (site / "commands.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        assert "<!-- generated:" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_an_entry(site: Path, room: str) -> None:
    module = importlib.import_module(f"reidkit.{room}")
    html = (site / "api" / f"{room}.html").read_text(encoding="utf-8")
    missing = [name for name in module.__all__ if f'id="reidkit.{room}.{name}"' not in html]
    assert not missing
    assert "Args" in html or room == "evaluation"
