"""README, CONTRIBUTING and the docstring of the package agree with the rest of the repository."""

import json
import re

import reidkit
from tests.docs.pages import CONTRIBUTING, DOCS, PAGES, README, ROOT
from tests.test_architecture import LEVELS, MODULES, PACKAGES

TEXT = README.read_text(encoding="utf-8")
RESULTS = (DOCS / "results.md").read_text(encoding="utf-8")


def numbers(text: str) -> set[str]:
    """All numbers of a text that are not part of a word."""
    return set(re.findall(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w.]*\d)", text))


def test_the_readme_is_short_and_links_to_every_page() -> None:
    assert TEXT.count("\n") <= 135
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES if page.parent == DOCS}
    links = set(re.findall(r"\((docs/[\w/]+\.md)\)", TEXT))
    assert links == pages | {"docs/api/index.md"}


def test_the_results_of_the_readme_are_those_of_the_page_of_results() -> None:
    section = TEXT[TEXT.index("## Results") : TEXT.index("[All results]")]
    rows = [row for row in section.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 3
    for row in rows:
        assert not numbers(row) - numbers(RESULTS), row


def test_all_texts_report_the_same_campaign_of_kills() -> None:
    campaigns = sorted((ROOT / "benchmarks" / "results").glob("*-faults.json"))
    modes = json.loads(campaigns[-1].read_text(encoding="utf-8"))["modes"].values()
    kills = f"{sum(mode['kills'] for mode in modes):,}"
    runs = f"{sum(mode['runs'] for mode in modes)}"
    for text in (TEXT, RESULTS):
        assert set(re.findall(r"([\d,]+) kills", text)) == {kills}
        assert set(re.findall(r"(\d+) finished runs", text)) == {runs}


def test_all_texts_report_the_same_time_of_the_demo() -> None:
    pages = (README, DOCS / "index.md", DOCS / "results.md")
    for page in pages:
        text = " ".join(page.read_text(encoding="utf-8").split())
        assert "five and a half minutes" in text
        assert not re.search(r"\b(five|six|seven) minutes", text)


def test_the_benchmarks_of_make_bench_are_those_of_contributing() -> None:
    recipe = re.search(r"^bench:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = re.search(r"^make bench +# benchmarks: (.+)$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    assert listed is not None
    assert listed[1].split(", ") == re.findall(r"benchmarks\.(\w+)", recipe[1])


def test_contributing_draws_the_levels_that_the_import_test_checks() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    drawn = re.findall(
        r"^((?:\w+ )*\w+) {2,}", text[text.index("## Packages") : text.index("* Imports run")], re.MULTILINE
    )
    assert [set(line.split()) | ({"__about__"} & level) for line, level in zip(drawn, LEVELS, strict=True)] == [*LEVELS]


def test_the_docstring_of_the_package_names_every_package() -> None:
    named = re.findall(r"`reidkit\.(\w+)`", reidkit.__doc__ or "")
    assert sorted(named) == sorted({*PACKAGES, *MODULES} - {"__about__"})
