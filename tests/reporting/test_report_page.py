import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.errors import RunError
from reidkit.reporting import write_report
from reidkit.runs import EpochRecord, RunConfig, RunFolder
from tests.reporting.folders import SETTINGS, add_labels, make_images, make_run, records

VOID = {"meta", "link", "img"}
RAW = {"style", "script"}
NASTY = """<script>alert("1")<img src=x onerror='y'>&amp;{{ 7 * 7 }}{% raw %}.png""".replace("/", "")


class Page(HTMLParser):
    """Parsed page: elements, attributes and text; fails on elements that are not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if not RAW & set(self._open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run whose images exist: three clusters and two noise images."""
    images = make_images(tmp_path / "images", [f"{index:04d}_c1.png" for index in range(12)])
    folder = make_run(tmp_path / "run", records())
    add_labels(folder, 4, [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, -1, -1], images)
    return folder


def test_the_page_of_a_finished_run(folder: Path) -> None:
    path = write_report(folder)
    assert path == folder / "report.html"
    page = Page(path)
    assert "<title>USL on market · reidkit</title>" in page.source
    for words in (
        "USL on market finished: 4 epochs recipe usl/small Any small image set of your own.",
        "mAP 55.5 % after epoch 4 12.5 before training best 60.0 after epoch 2",
        "Shaded epochs trained with every image as its own class",
        "Epoch 4: 12 images fell into 3 clusters of 2 to 5 images (median 3)",
        "Noise 2 images The largest clusters Cluster 0 5 images Cluster 1 3 images Cluster 2 2 images Map",
        "features.npz is missing: a run writes it in its last epoch",
        "rankings.npz is missing: it is written by an evaluation",
        "Attention The run has no checkpoint yet.",
        "data target market cameras true mean 0.5, 0.5, 0.25",
        "packages torch 2.9.9",
    ):
        assert words in page.words
    assert len(page.all("svg")) == 7
    assert [picture["alt"][:4] for picture in page.all("img")] == [
        "0010",
        "0011",
        *(f"{index:04d}" for index in range(10)),
    ]
    assert [row.get("class") for row in page.all("tr")].count("best") == 1
    assert "cannot be shown" not in page.words
    assert not page.source.count('class="notes"')


def test_reads_what_the_loop_writes(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ["a.png", "b.png", "c.png"])
    run = RunFolder.create(tmp_path / "run", RunConfig.model_validate({"training": {"epochs": 4}}))
    run.restore_history([EpochRecord.from_line(record) for record in records()])
    run.save_labels(4, np.array([0, 0, -1], dtype=np.int64), images)
    page = Page(write_report(run.path))
    assert "USL on synthetic finished: 4 epochs" in page.words
    assert "Epoch 4: 3 images fell into 1 cluster" in page.words
    assert sorted(picture["alt"] for picture in page.all("img")) == ["a.png", "b.png", "c.png"]
    assert 'class="notes"' not in page.source


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = Page(write_report(folder))
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link.split(",")[0] for link in links if not link.startswith("#")} == {"data:", "data:image/jpeg;base64"}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert not re.search(r"url\((?!data:image/jpeg)|@import|srcset|<iframe|<object|\son\w+=|https?:", page.source)
    script = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert len(script) == page.source.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]


def test_every_name_is_escaped(tmp_path: Path) -> None:
    names = [NASTY, "line\nbreak\t.png", "großes Bild 写真.png", "x" * 246 + ".png", '"><svg onload=1>.png']
    images = make_images(tmp_path / "images", names)
    lines = records()
    lines[4]["seconds"][NASTY] = 1.0
    lines[1]["labels"] = NASTY
    settings = SETTINGS.replace('"market"', f"'''{NASTY}'''").replace('"usl/small"', f"'''{NASTY}'''")
    folder = make_run(tmp_path / "<script>run", lines, settings)
    (folder / "environment.json").write_text('{"<script>": {"<b>": "</td><script>"}, "<i>": ["<u>"]}')
    add_labels(folder, 4, [0, 0, 0, 0, -1], images)
    page = Page(write_report(folder))
    assert "u" not in {tag for tag, _ in page.elements}
    assert len(page.all("script")) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert sorted(picture["alt"] for picture in page.all("img")) == sorted(names)
    assert page.all("img")[0]["title"] == page.all("img")[0]["alt"]
    assert f"USL on {NASTY}" in page.words
    assert f"epoch 4: {NASTY} 1.0 s" in page.words
    assert "<u>" in page.words


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_no_text_are_written_with_question_marks(tmp_path: Path) -> None:
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png"))
    Image.new("RGB", (8, 16)).save(image, "PNG")
    folder = make_run(tmp_path / "run", records())
    add_labels(folder, 4, [0], [image])
    assert [picture["alt"] for picture in Page(write_report(folder)).all("img")] == ["bad?.png"]


def test_images_that_are_gone_are_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "0000_c1.png").unlink()
    (tmp_path / "images" / "0010_c1.png").write_text("no image")
    page = Page(write_report(folder))
    assert "2 of 12 images cannot be shown: 1 no longer where the run found them, 1 unreadable." in page.words
    absent = [(span["class"], span["title"]) for span in page.all("span") if span.get("class") == "absent"]
    assert absent == [("absent", "0010_c1.png"), ("absent", "0000_c1.png")]
    assert len(page.all("img")) == 10


def test_without_images_the_clusters_are_still_described(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    page = Page(write_report(folder))
    assert "12 of 12 images cannot be shown: 12 no longer where the run found them." in page.words
    assert "12 images fell into 3 clusters of 2 to 5 images" in page.words
    assert "Cluster 0" not in page.words
    assert len(page.all("svg")) == 7
    assert page.all("img") == []


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [])
    (folder / "metrics.jsonl").unlink()
    page = Page(write_report(folder))
    for words in (
        "no epoch recorded yet",
        "mAP — not evaluated",
        "Curves No epoch has been recorded yet. Clusters No labels to show: no epoch has trained on clusters yet",
        "Epochs No epoch has been recorded yet. Settings",
    ):
        assert words in page.words
    assert page.all("svg") == []


def test_a_run_without_ground_truth(tmp_path: Path) -> None:
    scores = {"mAP", "rank1", "rank5", "rank10"}
    lines = [{name: value for name, value in line.items() if name not in scores} for line in records()[1:3]]
    page = Page(write_report(make_run(tmp_path / "run", lines)))
    assert "unfinished: 2 of 4 epochs" in page.words
    assert "mAP — not evaluated Rank-1 — not evaluated" in page.words
    assert "Not recorded: Accuracy on the target, %. Without an evaluation on labelled query" in page.words
    assert "epoch labels clusters noise %" in page.words
    assert len(page.all("svg")) == 5


def test_a_run_of_which_only_a_damaged_configuration_is_left(tmp_path: Path) -> None:
    (tmp_path / "usl-market").mkdir()
    (tmp_path / "usl-market" / "config.toml").write_text("[")
    page = Page(write_report(tmp_path / "usl-market"))
    assert "<title>usl-market · reidkit</title>" in page.source
    assert "config.toml is damaged" in page.words
    assert "environment.json is missing or cannot be opened." in page.words


def test_damaged_labels_are_said(folder: Path) -> None:
    (folder / "labels" / "epoch_004.npz").write_bytes(b"PK\x05\x06 nothing")
    page = Page(write_report(folder))
    assert "labels/epoch_004.npz is damaged (" in page.words
    assert "No labels to show" in page.words
    assert page.all("img") == []


def test_an_epoch_of_noise_only(folder: Path) -> None:
    add_labels(folder, 4, [-1, -1], [Path("/gone/a.png"), Path("/gone/b.png")])
    page = Page(write_report(folder))
    assert "Epoch 4: all 2 images were noise." in page.words
    assert "The largest clusters" not in page.words


def test_skipped_steps_are_said(tmp_path: Path) -> None:
    lines = records()
    lines[2]["skipped"], lines[3]["skipped"] = 2, 1
    words = Page(write_report(make_run(tmp_path / "run", lines))).words
    assert "3 training steps left out because the loss was not finite." in words


@pytest.mark.parametrize(
    ("mode", "target", "title"),
    [("usl", "/photos/cows/", "USL on cows"), ("uda", "/", "UDA on /"), ("other", "msmt17", "other on msmt17")],
)
def test_the_title_says_mode_and_target(tmp_path: Path, mode: str, target: str, title: str) -> None:
    folder = make_run(tmp_path / "run", [], f'mode = "{mode}"\n[data]\ntarget = "{target}"\n')
    assert f"<h1>{title}</h1>" in write_report(folder).read_text(encoding="utf-8")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_older_report_is_replaced(folder: Path) -> None:
    (folder / "report.html").write_text("old")
    before = {path.name for path in folder.iterdir()}
    write_report(folder)
    assert {path.name for path in folder.iterdir()} == before
    assert "USL on market" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_stays_light(tmp_path: Path) -> None:
    """A long run with a full gallery of pictures that hardly compress."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images = [tmp_path / "images" / f"{index}.png" for index in range(140)]
    for image in images:
        Image.fromarray(rng.integers(0, 256, (160, 96, 3), dtype=np.uint8)).save(image, compress_level=0)
    lines = [records()[2] | {"epoch": epoch, "loss": rng.random()} for epoch in range(1, 501)]
    folder = make_run(tmp_path / "run", lines)
    add_labels(folder, 500, [*np.repeat(np.arange(12), 10), *[-1] * 20], images)
    report = write_report(folder)
    assert report.read_text(encoding="utf-8").count("data:image/jpeg") == 140
    assert report.stat().st_size < 3_000_000


def test_the_page_of_a_large_run_stays_light(tmp_path: Path) -> None:
    """32,621 images in 3,000 clusters with features; the pictures are noise over a gradient, worse than photographs."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images = [tmp_path / "images" / f"{index}.jpg" for index in range(40)]
    ramp = np.linspace(0, 200, 128)[:, None, None]
    for image in images:
        Image.fromarray((ramp + rng.integers(0, 56, (128, 64, 3))).astype(np.uint8)).save(image)
    count, clusters = 32_621, 3000
    labels = rng.integers(-1, clusters, count)
    paths = [images[index % 40].with_name(f"./{index % 40}.jpg") for index in range(count)]
    folder = make_run(tmp_path / "run", records())
    add_labels(folder, 4, labels, paths)
    features = rng.normal(size=(clusters + 1, 8))[labels] + 0.2 * rng.normal(size=(count, 8))
    np.savez(
        folder / "features.npz",
        features=features.astype(np.float32),
        identities=labels,
        cameras=rng.integers(0, 15, count),
        paths=np.array([str(path) for path in paths]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)  # it takes its time and changes no size
        report = write_report(folder)
    page = report.read_text(encoding="utf-8")
    assert "3,000 of 32,621 images, drawn at random" in page
    assert page.count("<circle") > 3000
    assert "2,988 more clusters not shown" in page
    assert report.stat().st_size < 15_000_000


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, reidkit.reporting; print([name for name in ('torch', 'matplotlib', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
