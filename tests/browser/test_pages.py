"""The pages in a real browser: nothing fails, nothing is fetched, every picture is there, hovering works."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reidkit.inference import GalleryIndex, load, search_gallery, write_search_page
from reidkit.reporting import write_comparison, write_report
from reidkit.usl import train_usl
from tests.tiny import tiny_config, tiny_people, tiny_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report, a comparison of two runs, and a search page."""
    folder = tmp_path_factory.mktemp("pages")
    people = tiny_people(folder / "people", train_identities=12)
    hostile = people / "bounding_box_train"
    first = min(hostile.iterdir())
    shutil.copy(first, hostile / "0001_c1s1_000999_00_<img src=x onerror=alert(1)>'\".jpg")
    runs = []
    for seed in (1, 2):
        config = tiny_config(people, seed=seed)
        runs.append(folder / f"run{seed}")
        train_usl(config, tiny_run(runs[-1], config))
    embedder = load(runs[0], device="cpu", precision="32")
    index = GalleryIndex(folder / "index", embedder, root=people / "bounding_box_test")
    index.update()
    queries = sorted((people / "query").iterdir())[:2]
    found = search_gallery(index, embedder.embed(queries), queries)
    write_search_page(folder / "search.html", queries, found, gallery=people / "bounding_box_test", checkpoint=runs[0])
    return {
        "report": write_report(runs[0]),
        "comparison": write_comparison(runs, folder / "comparison.html"),
        "search": folder / "search.html",
    }


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("name", ["report", "comparison", "search"])
def test_a_page_opens_without_a_fault(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))

    def dismiss(dialog: Any) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(pages[name].as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.evaluate("for (const one of document.images) one.loading = 'eager'")
    page.evaluate("Promise.all([...document.images].map(one => one.decode().catch(() => null)))")
    assert said == []
    assert [url for url in fetched if not url.startswith(("data:", pages[name].as_uri()))] == []
    assert page.evaluate("[...document.images].filter(one => one.naturalWidth === 0).length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.innerText.length") > 200
    page.close()


def test_hovering_over_the_map_shows_a_picture(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(pages["report"].as_uri())
    assert page.locator("#tip").is_hidden()
    dot = page.locator("svg.map circle").first
    dot.scroll_into_view_if_needed()
    # The page is told of the scrolling a frame later, and hides what is shown then.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dot.hover(force=True)
    page.locator("#tip").wait_for(state="visible")
    assert page.locator("#tip span").inner_text()
    picture = page.locator("#tip i")
    assert "data:image" in picture.evaluate("one => getComputedStyle(one).backgroundImage")
    page.close()
