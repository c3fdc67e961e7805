"""The site builds without a warning and needs no network."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reidkit
from reidkit.datasets import CATALOG
from reidkit.runs import list_recipes
from tests.docs.pages import DOCS, PAGES

API = sorted(page.stem for page in (DOCS / "api").glob("*.md") if page.stem != "index")


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
    """Addresses that a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        fetched = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
        if tag in fetched and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get(fetched[tag]) or "")


def test_every_page_is_built_and_loads_nothing_from_the_network(site: Path) -> None:
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


def test_every_package_but_the_command_line_has_a_page() -> None:
    packages = {path.parent.name for path in Path(reidkit.__file__).parent.glob("*/__init__.py")}
    assert {*API} == packages - {"cli"} | {"errors"}


@pytest.mark.parametrize("package", API)
def test_every_public_name_has_an_entry(site: Path, package: str) -> None:
    module = importlib.import_module(f"reidkit.{package}")
    html = (site / "api" / f"{package}.html").read_text(encoding="utf-8")
    missing = [name for name in module.__all__ if f'id="reidkit.{package}.{name}"' not in html]
    assert not missing
    assert "<strong>Args</strong>" in html
