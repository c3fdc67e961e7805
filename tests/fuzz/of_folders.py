"""Readers of folders: runs, indices, work that was stopped, stores of images, data sets."""

import json
import shutil
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from reidkit.datasets import Split, check_dataset, decode_images, load_dataset
from reidkit.datasets.contact_sheet import write_contact_sheet
from reidkit.datasets.store import evict, list_stores, open_images
from reidkit.inference import GalleryIndex, extract_to_file, find_images, search_gallery, write_search_page
from reidkit.inference.calibration import read_calibration
from reidkit.inference.gallery_index import is_index
from reidkit.loop import TrainedModel, create_fabric
from reidkit.pretrain import select_images
from reidkit.pretrain.lists import write_scores
from reidkit.reporting import write_comparison, write_report
from reidkit.reporting.run import read_run
from reidkit.runs import RunFolder
from reidkit.runs.rankings import read_rankings
from reidkit.storage import WorkFolder, read_features
from tests.fuzz.reader import COUNT, EMBEDDER, WIDTH, Reader, features, model, picture, refusable
from tests.tiny import tiny_config

__all__ = ["READERS"]


def _write_run(folder: Path) -> None:
    run = RunFolder(folder)
    run.save_config(tiny_config("market"))
    (folder / "labels").mkdir()
    paths = [folder / f"{number:04d}.png" for number in range(COUNT)]
    lines = [
        {"epoch": 0, "mAP": 12.5, "rank1": 30.0, "rank5": 40.0, "rank10": 50.0, "seconds": {"evaluate": 1.5}},
        {
            "epoch": 1,
            "labels": "clusters",
            "clusters": 6,
            "noise": 0.1,
            "loss": 1.5,
            "images": 9,
            "seconds": {"train": 1},
        },
        {"epoch": 2, "labels": "clusters", "clusters": 5, "loss": 1.0, "mAP": 50.0, "quality": {"silhouette": 0.1}},
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (folder / "environment.json").write_text('{"reidkit": "1", "packages": {"torch": "2"}}', encoding="utf-8")
    for epoch in (1, 2):
        run.save_labels(epoch, np.arange(COUNT) // 4 - 1, paths)
    run.save_features(features(), Split(tuple(paths), np.arange(COUNT) // 4, np.arange(COUNT) % 3))
    names = np.array([["/g.jpg", ""]] * 3)
    np.savez_compressed(
        folder / "rankings.npz",
        average_precisions=np.ones(3, np.float32),
        kinds=np.array(["best", "worst", "median"]),
        queries=np.arange(3),
        query_paths=np.array(["/q.jpg"] * 3),
        rows=np.array([[0, -1]] * 3),
        scores=np.zeros((3, 2), np.float32),
        right=np.ones((3, 2), np.bool_),
        gallery_paths=names,
    )


def _read_run(folder: Path) -> None:
    read_run(folder)
    run = RunFolder(folder)
    for read in (run.read_config, run.read_metrics, lambda: run.load_labels(1), lambda: read_features(folder)):
        refusable(read)
    refusable(lambda: read_rankings(folder))


def _write_index(folder: Path) -> None:
    picture(folder / "photos" / "a.png")
    picture(folder / "photos" / "b.png")
    GalleryIndex(folder / "index", EMBEDDER, folder / "photos").update()
    stored = {"cosines": [-1.0, 1.0], "probabilities": [0.1, 0.9], "same": 60, "different": 60}
    (folder / "index" / "calibration.json").write_text(json.dumps(stored), encoding="utf-8")
    header = json.loads((folder / "index" / "index.json").read_bytes())
    (folder / "index" / "index.json").write_text(json.dumps({**header, "root": "photos"}), encoding="utf-8")


def _read_index(folder: Path) -> None:
    is_index(folder / "index")
    with chdir(folder):  # the gallery's place in the index is relative to it
        refusable(lambda: GalleryIndex(Path("index"), EMBEDDER).update())
        _search()


def _search() -> None:
    """As `reidkit search --gallery INDEX --html PAGE` does."""
    index, queries = GalleryIndex(Path("index"), EMBEDDER), [Path("photos/a.png"), Path("photos/b.png")]
    refusable(lambda: read_calibration(index.calibration_file))
    calibration = read_calibration(index.calibration_file) if index.calibration_file.exists() else None
    asked = np.full((len(queries), WIDTH), WIDTH**-0.5, np.float32)
    found = search_gallery(index, asked, queries, calibration=calibration)
    write_search_page(Path("page.html"), queries, found, gallery=index.folder, checkpoint=EMBEDDER.checkpoint)


def _images_of(folder: Path) -> Split:
    paths = tuple(sorted(folder.glob("*.png")))
    return Split(paths, np.full(len(paths), -1), np.full(len(paths), -1))


def _write_work(folder: Path) -> None:
    for number in range(3):
        picture(folder / f"{number}.png", number)
    work = WorkFolder(folder / ".out.npz.work", (WIDTH,))
    work.begin({"fingerprint": _WORK})
    work.add(np.zeros((1, WIDTH), np.float32), {"readable": [True, False], "problems": ["1.png: it is damaged"]})
    work.add(np.zeros((1, WIDTH), np.float32), {"readable": [True], "problems": []})


def _read_work(folder: Path) -> None:
    # The fingerprint holds the images' times, which are others in every folder.
    with patch("reidkit.inference.extraction._fingerprint", lambda *_: _WORK):
        extract_to_file(EMBEDDER, _images_of(folder), folder / "out.npz")
    read_features(folder / "out.npz")


_WORK = "0" * 64


def _write_market(folder: Path) -> None:
    for place in ("bounding_box_train", "query", "bounding_box_test"):
        for name in ("0001_c1s1_000001_00.jpg", "0002_c2s1_000002_00.png", "-1_c3s1_000003_00.jpg"):
            picture(folder / place / name)


def _write_msmt17(folder: Path) -> None:
    lines = {"train": "train", "val": "train", "query": "test", "gallery": "test"}
    for kind, place in lines.items():
        name = f"0000/0000_{len(kind):03d}_01_0303morning_0008_0.jpg"
        picture(folder / place / name)
        (folder / f"list_{kind}.txt").write_text(f"{name} 0\n", encoding="utf-8")


def _write_vehicleid(folder: Path) -> None:
    (folder / "train_test_split").mkdir()
    for number in range(4):
        picture(folder / "image" / f"{number:07d}.jpg")
    for name in ("train_list", "test_list_800", "test_list_1600", "test_list_2400"):
        lines = "".join(f"{number:07d} {number // 2}\n" for number in range(4))
        (folder / "train_test_split" / f"{name}.txt").write_text(lines, encoding="utf-8")


def _read_dataset(folder: Path) -> None:
    load_dataset(str(folder), folder)


def _write_plain(folder: Path) -> None:
    picture(folder / "a.jpg")
    picture(folder / "deep" / "b.png")
    (folder / "list.txt").write_text("a.jpg\ndeep/b.png\n", encoding="utf-8")
    (folder / "list.csv").write_text("path,note\na.jpg,x\ndeep/b.png,y\n", encoding="utf-8")


def _read_plain(folder: Path) -> None:
    for target in (folder, folder / "list.txt", folder / "list.csv", folder / "**" / "*.jpg"):

        def read(target: Path = target) -> None:
            decode_images(find_images([str(target)], data_root=folder).paths, (16, 8), workers=1)

        refusable(read)


def _check(folder: Path) -> None:
    """As `reidkit data check --sheet PICTURE` does."""
    dataset = load_dataset(str(folder), folder)
    check_dataset(dataset, read=True)
    write_contact_sheet(dataset, folder / "sheet.png", rows=3, columns=3)


def _rewrite(folder: Path) -> None:
    shutil.rmtree(folder / "report.html", ignore_errors=True)
    write_report(folder)


def _write_runs(folder: Path) -> None:
    for name in ("one", "other"):
        (folder / name).mkdir()
        _write_run(folder / name)


def _compare(folder: Path) -> None:
    write_comparison([folder / "one", folder / "other"], folder / "page.html")


_STORE = "0" * 16


def _open_store(folder: Path) -> None:
    # The key holds the images' times, which are others in every folder.
    with patch("reidkit.datasets.store._key", lambda *_: _STORE):
        images = open_images(sorted(folder.glob("*.png")), (16, 8), folder=folder / "store", label="few", workers=1)
    assert images.pixels[:].shape == (images.readable.sum(), 3, 16, 8)


def _write_store(folder: Path) -> None:
    for number in range(3):
        picture(folder / f"{number}.png", number)
    _open_store(folder)


def _read_store(folder: Path) -> None:
    """As a run does, and `reidkit cache`."""
    list_stores(folder / "store")
    _open_store(folder)
    refusable(lambda: evict(folder / "store", keep_bytes=0))


@cache
def _trained() -> TrainedModel:
    return TrainedModel(model(), tiny_config("synthetic"), Path("model.pt"))


_NAMES = [f"{number}.png" for number in range(3)]
_INPUTS: dict[str, Any] = {"models": "two"}


def _write_selection(folder: Path) -> None:
    """Files left by a stopped selection, and the table of an earlier one."""
    for number in range(3):
        picture(folder / f"{number}.png", number)
    work = WorkFolder(folder / "list.txt.work", ())
    work.begin(_INPUTS)
    for number, count in enumerate((1, 2)):
        work.add(np.zeros(count, np.float32), {}, number=number)
    write_scores(folder / "scores.parquet", _NAMES, np.array([1, 0, np.nan], np.float32), np.arange(3), 1, _INPUTS)


def _select(folder: Path) -> None:
    # What the scores depend on holds the folder's place, which is another each time.
    with patch("reidkit.pretrain.selection._describe_inputs", lambda *_: _INPUTS):
        places = folder / "list.txt", folder / "scores.parquet"
        select_images(create_fabric("cpu", "32"), _trained(), _trained(), folder, _NAMES, *places, chunk=2)


READERS: dict[str, Reader] = {
    "run folder": Reader(_write_run, _read_run, folder=True),
    "report": Reader(_write_run, _rewrite, folder=True, share=0.1),
    "comparison": Reader(_write_runs, _compare, "one/*", folder=True, share=0.2),
    "gallery index": Reader(_write_index, _read_index, "index/*", folder=True),
    "extraction": Reader(_write_work, _read_work, ".out.npz.work/*", folder=True),
    "selection": Reader(_write_selection, _select, "[ls]*", folder=True),
    "image store": Reader(_write_store, _read_store, f"store/{_STORE}/*", folder=True),
    "Market-1501": Reader(_write_market, _read_dataset, folder=True),
    "Market-1501, checked": Reader(_write_market, _check, folder=True, share=0.3),
    "MSMT17": Reader(_write_msmt17, _read_dataset, "*.txt", folder=True),
    "VehicleID": Reader(_write_vehicleid, _read_dataset, "train_test_split/*.txt", folder=True),
    "folder and lists": Reader(_write_plain, _read_plain, folder=True),
}
