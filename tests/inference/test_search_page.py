"""The page of a search."""

import re
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reidkit.inference.search_page as module
from reidkit.inference import Match, write_search_page
from tests.inference.conftest import NAMES, draw_images


def test_a_page_needs_nothing_and_escapes_every_name(tmp_path: Path) -> None:
    paths = draw_images(tmp_path, NAMES)
    gone = tmp_path / "gone<i>.jpg"
    matches = [Match(path, 0.5, 0.25, 0.125) for path in (*paths, gone)]
    page = tmp_path / "page.html"
    write_search_page(page, paths[:2], [matches, []], gallery=tmp_path / "<g>", checkpoint=tmp_path / "m.pt")
    source = page.read_text(encoding="utf-8")
    for name in ("a'b\".jpg", "<b>&amp;.jpg", "two\\nlines.jpg", "žluťoučký 人.jpg", "[bold]{{ 1 }}.jpg", gone.name):
        assert escape(name, quote=False).replace("'", "&#39;").replace('"', "&#34;") in source
    assert "<b>&amp;.jpg" not in source
    assert "<i>.jpg" not in source
    assert source.count("data:image/jpeg") == 2 + 6
    assert source.count('loading="lazy"') == 6
    assert "<script" not in source
    assert not re.search(r"(?:src|href)=\"(?!data:)", source)
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*</style>|<[^>]+>", " ", source, flags=re.DOTALL)))
    for shown in ("2 queries", "25.0 %", "cos 0.500", "d 0.125", "no picture", "No match.", "re-ranking"):
        assert shown in words


def test_a_page_stays_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUDGET", 60_000)
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    matches = [Match(tmp_path / "a.png", 0.5, None, None)] * 10
    write_search_page(tmp_path / "p.html", [tmp_path / "a.png"], [matches], gallery=tmp_path, checkpoint=tmp_path)
    source = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert len(source) < 60_000 + 20_000
    assert source.count('class="score"') == 10
    assert "The page is full" in source
    assert "%</b>" not in source
