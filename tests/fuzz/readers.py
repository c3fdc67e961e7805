"""Every place that reads what others wrote: valid files for it, and the call that reads them."""

import hashlib
import io
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import lmdb
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save as to_safetensors

from reidkit.backbones import infer_architecture, load_weights, read_checkpoint
from reidkit.datasets import Split, decode_images, load_dataset
from reidkit.datasets.lmdb import load_lmdb, open_entry
from reidkit.errors import ReidkitError
from reidkit.inference import Embedder, GalleryIndex, extract_to_file, find_images
from reidkit.inference.calibration import read_calibration
from reidkit.inference.embedder import Embedded
from reidkit.inference.gallery import is_index
from reidkit.inference.output import write_features
from reidkit.loop import RunFolder, build_model, load_model, parse_assignment, read_toml, resolve_config
from reidkit.loop.checkpoints import write_checkpoint
from reidkit.loop.feature_files import read_features, read_integers
from reidkit.loop.rankings import read_rankings
from reidkit.loop.recipes import describe_config
from reidkit.pretrain.lists import apply_list, read_list, read_scores, write_list, write_scores
from reidkit.reporting import write_report
from reidkit.reporting.run import read_run
from tests.tiny import SETTINGS, tiny_config

__all__ = ["READERS", "Reader", "seal", "seeds_of"]

Files = dict[str, bytes]

_COUNT, _WIDTH = 24, 8


class Reader(NamedTuple):
    """A place that reads what others wrote."""

    write: Callable[[Path], object]
    """Writes a valid input into an empty folder."""
    read: Callable[[Path], object]
    """Reads a folder of that kind."""
    targets: str = "*"
    """Which of the files are changed: a glob."""
    seals: Callable[[bytes], bytes] | None = None
    """Makes the checksum of a changed file right, which somebody who means harm can do too."""
    folder: bool = False
    """Whether pipes, loops and odd names may lie in it too."""
    share: float = 1.0
    """How many inputs a campaign takes, relative to the others: what is slow gets fewer."""


@cache
def seeds_of(name: str) -> Files:
    """The files of a valid input by their path."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        READERS[name].write(folder)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class _Stub:
    """Stands in for a model: reading an index or a work folder needs no more of it."""

    fingerprint, precision, feature_dim, sie_cameras, checkpoint = "f" * 64, "32", _WIDTH, 0, Path("model.pt")

    def stream(self, images: list[Path], **_: object) -> Iterator[Embedded]:
        """One batch of features, all images readable."""
        features = np.full((len(images), _WIDTH), _WIDTH**-0.5, np.float32)
        yield Embedded(features, np.ones(len(images), np.bool_), [])


_EMBEDDER = cast(Embedder, _Stub())


@cache
def _model() -> Any:
    return build_model(tiny_config("synthetic").backbone, 0)


def _state(**more: Any) -> dict[str, Any]:
    settings = tiny_config("synthetic").model_dump_json()
    return {"format": 2, "config": settings, "model": _model().state_dict(), "epoch": 1, "best": 0.5, **more}


def _features() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_COUNT, _WIDTH), dtype=np.float32)


def _columns() -> dict[str, Any]:
    numbers = np.arange(_COUNT)
    return {
        "features": _features(),
        "identities": numbers // 4,
        "cameras": numbers % 3,
        "paths": np.array([f"{number:04d}.jpg" for number in numbers]),
    }


def _picture(path: Path, shade: int = 0, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(shade).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path, **options)


# -- weights ----------------------------------------------------------------------------------------------------------


def _write_legacy(folder: Path) -> None:
    torch.save({"state_dict": _model().state_dict()}, folder / "old.pth", _use_new_zipfile_serialization=False)


def _write_weights(folder: Path) -> None:
    state = {f"backbone.{name}": value.numpy() for name, value in _model().backbone.state_dict().items()}
    (folder / "weights.safetensors").write_bytes(to_safetensors(state))


def _read_weights(folder: Path) -> None:
    file = next(folder.iterdir())
    infer_architecture(read_checkpoint(file))
    load_weights(_model(), file)


def _write_run_checkpoint(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "config.toml").write_text('mode = "usl"\n', encoding="utf-8")
    for epoch in range(2):
        write_checkpoint(folder / "checkpoints", "last", _state(history=[{"epoch": epoch}]))


def seal(data: bytes) -> bytes:
    """A checkpoint with the right checksum."""
    content = data.rpartition(b"\nreidkit sha256 ")[0] or data
    return content + b"\nreidkit sha256 %s\n" % hashlib.sha256(content).hexdigest().encode()


# -- lists and settings -----------------------------------------------------------------------------------------------


def _write_pickled_list(folder: Path) -> None:
    names = [f"a/{number:03d}.jpg" for number in range(9)]
    for protocol in range(6):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(names, protocol=protocol))


def _write_text_list(folder: Path) -> None:
    write_list(folder / "list.txt", [f"a/{number:03d}.jpg" for number in range(9)])


def _read_lists(folder: Path) -> None:
    root = Path("/data")
    paths = tuple(root / "a" / f"{number:03d}.jpg" for number in range(9))
    split = Split(paths, np.full(9, -1), np.full(9, -1))
    for file in sorted(folder.iterdir()):
        apply_list(split, root, read_list(file))


def _write_settings(folder: Path) -> None:
    RunFolder(folder).save_config(tiny_config("market"))


def _read_settings(folder: Path) -> None:
    describe_config(resolve_config([SETTINGS, read_toml(folder / "config.toml")]))
    RunFolder(folder).read_config()


def _write_assignments(folder: Path) -> None:
    lines = ("clustering.eps=0.5", "data.mean=[0.5, 0.5, 0.5]", "backbone.name=vit_tiny", "training.precision='32'")
    for number, line in enumerate(lines):
        (folder / f"{number}.set").write_text(line, encoding="utf-8")


def _read_assignments(folder: Path) -> None:
    typed = [file.read_bytes().decode("utf-8", "surrogateescape") for file in sorted(folder.iterdir())]
    resolve_config([SETTINGS, *map(parse_assignment, typed)])


# -- tables, features, images -----------------------------------------------------------------------------------------

_ROWS = (
    ("path", "split", "identity", "camera"),
    ("a.png", "train", "1", "c1"),
    ("b.png", "query", "2", "c1"),
    ("b.png", "gallery", "2", "c2"),
    ("a.png", "gallery", "-1", ""),
)


def _write_csv(folder: Path) -> None:
    _picture(folder / "a.png")
    _picture(folder / "b.png")
    (folder / "table.csv").write_text("".join(",".join(row) + "\n" for row in _ROWS), encoding="utf-8")


def _write_parquet_table(folder: Path) -> None:
    _write_csv(folder)
    (folder / "table.csv").unlink()
    columns = dict(zip(_ROWS[0], zip(*_ROWS[1:], strict=True), strict=True))
    parquet.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "table.parquet")


def _read_table(folder: Path) -> None:
    file = next(path for path in folder.iterdir() if path.name.startswith("table"))
    load_dataset(str(file), folder)


def _write_npy(folder: Path) -> None:
    np.save(folder / "features.npy", _features())


def _write_npz(folder: Path) -> None:
    np.savez(folder / "features.npz", **_columns())


def _write_parquet(folder: Path) -> None:
    columns = _columns()
    write_features(
        folder / "f.parquet", columns["features"], list(columns["paths"]), columns["identities"], np.arange(24)
    )


def _write_safetensors(folder: Path) -> None:
    columns = _columns()
    write_features(
        folder / "f.safetensors", columns["features"], list(columns["paths"]), columns["identities"], np.arange(_COUNT)
    )


def _read_features(folder: Path) -> None:
    read_features(next(folder.iterdir()))


def _write_integers(folder: Path) -> None:
    np.save(folder / "labels.npy", np.arange(_COUNT))
    (folder / "labels.txt").write_text("".join(f"{number}\n" for number in range(_COUNT)), encoding="utf-8")
    (folder / "names.csv").write_text("".join(f"person {number}\n" for number in range(_COUNT)), encoding="utf-8")


def _read_integers(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        read_integers(file, "identities", _COUNT)


def _write_scores(folder: Path) -> None:
    scores = np.linspace(0, 1, _COUNT, dtype=np.float32)
    write_scores(
        folder / "s.parquet", [f"{number}" for number in range(_COUNT)], scores, np.arange(_COUNT), 3, {"a": 1}
    )


def _write_images(folder: Path) -> None:
    _picture(folder / "a.jpg", quality=90)
    _picture(folder / "b.jpg", progressive=True)
    _picture(folder / "c.png")
    _picture(folder / "d.bmp")
    Image.new("RGBA", (9, 7), (9, 8, 7, 6)).save(folder / "e.png")
    Image.fromarray(np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000).save(folder / "f.png")
    Image.new("P", (9, 7)).save(folder / "g.gif")
    _picture(folder / "h.tiff", compression="tiff_lzw")


def _read_images(folder: Path) -> None:
    decode_images(sorted(folder.iterdir()), (16, 8), workers=1)


# -- folders ----------------------------------------------------------------------------------------------------------


def _write_run(folder: Path) -> None:
    run = RunFolder(folder)
    run.save_config(tiny_config("market"))
    (folder / "labels").mkdir()
    paths = [folder / f"{number:04d}.png" for number in range(_COUNT)]
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
        run.save_labels(epoch, np.arange(_COUNT) // 4 - 1, paths)
    run.save_features(_features(), Split(tuple(paths), np.arange(_COUNT) // 4, np.arange(_COUNT) % 3))
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
        _refusable(read)
    _refusable(lambda: read_rankings(folder))


def _refusable(read: Callable[[], object]) -> None:
    """Call, and go on after a refusal: what follows is read too."""
    with suppress(ReidkitError):
        read()


def _write_index(folder: Path) -> None:
    _picture(folder / "photos" / "a.png")
    _picture(folder / "photos" / "b.png")
    GalleryIndex(folder / "index", _EMBEDDER, folder / "photos").update()
    stored = {"cosines": [-1.0, 1.0], "probabilities": [0.1, 0.9], "same": 60, "different": 60}
    (folder / "index" / "calibration.json").write_text(json.dumps(stored), encoding="utf-8")
    header = json.loads((folder / "index" / "index.json").read_bytes())
    (folder / "index" / "index.json").write_text(json.dumps({**header, "root": "photos"}), encoding="utf-8")


def _read_index(folder: Path) -> None:
    is_index(folder / "index")
    _refusable(lambda: read_calibration(folder / "index" / "calibration.json"))
    with chdir(folder):  # the gallery's place in the index is relative to it
        index = GalleryIndex(folder / "index", _EMBEDDER)
        index.features()
        for path in index.paths():
            path.relative_to(index.root)
        index.update()


def _images_of(folder: Path) -> Split:
    return Split(tuple(sorted(folder.glob("*.png"))), np.full(3, -1), np.full(3, -1))


def _write_work(folder: Path) -> None:
    for number in range(3):
        _picture(folder / f"{number}.png", number)
    (folder / ".out.npz.work").mkdir()
    np.zeros((2, _WIDTH), np.float32).tofile(folder / ".out.npz.work" / "features.f32")
    state = {"fingerprint": _WORK, "done": 3, "rows": 2, "left_out": [[1, "it is damaged"]]}
    (folder / ".out.npz.work" / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _read_work(folder: Path) -> None:
    # The fingerprint holds the images' times, which are others in every folder.
    with patch("reidkit.inference.extraction._fingerprint", lambda *_: _WORK):
        extract_to_file(_EMBEDDER, _images_of(folder), folder / "out.npz")
    read_features(folder / "out.npz")


_WORK = "0" * 64


def _write_market(folder: Path) -> None:
    for place in ("bounding_box_train", "query", "bounding_box_test"):
        for name in ("0001_c1s1_000001_00.jpg", "0002_c2s1_000002_00.png", "-1_c3s1_000003_00.jpg"):
            _picture(folder / place / name)


def _write_msmt17(folder: Path) -> None:
    lines = {"train": "train", "val": "train", "query": "test", "gallery": "test"}
    for kind, place in lines.items():
        name = f"0000/0000_{len(kind):03d}_01_0303morning_0008_0.jpg"
        _picture(folder / place / name)
        (folder / f"list_{kind}.txt").write_text(f"{name} 0\n", encoding="utf-8")


def _write_vehicleid(folder: Path) -> None:
    (folder / "train_test_split").mkdir()
    for number in range(4):
        _picture(folder / "image" / f"{number:07d}.jpg")
    for name in ("train_list", "test_list_800", "test_list_1600", "test_list_2400"):
        lines = "".join(f"{number:07d} {number // 2}\n" for number in range(4))
        (folder / "train_test_split" / f"{name}.txt").write_text(lines, encoding="utf-8")


def _read_dataset(folder: Path) -> None:
    load_dataset(str(folder), folder)


def _write_plain(folder: Path) -> None:
    _picture(folder / "a.jpg")
    _picture(folder / "deep" / "b.png")
    (folder / "list.txt").write_text("a.jpg\ndeep/b.png\n", encoding="utf-8")
    (folder / "list.csv").write_text("path,note\na.jpg,x\ndeep/b.png,y\n", encoding="utf-8")


def _read_plain(folder: Path) -> None:
    for target in (folder, folder / "list.txt", folder / "list.csv", folder / "**" / "*.jpg"):

        def read(target: Path = target) -> None:
            decode_images(find_images([str(target)], data_root=folder).paths, (16, 8), workers=1)

        _refusable(read)


def _write_lmdb(folder: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 8)).save(file, "JPEG")
    with (
        lmdb.open(str(folder), map_size=2**18, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(20):
            transaction.put(b"%04d" % number, file.getvalue() * (1 + 9 * (number % 2)))


def _read_lmdb(folder: Path) -> None:
    dataset = load_lmdb(folder, "x")
    for path in dataset.train.paths:
        try:
            open_entry(path).close()
        except OSError:
            continue


def _rewrite(folder: Path) -> None:
    shutil.rmtree(folder / "report.html", ignore_errors=True)
    write_report(folder)


READERS: dict[str, Reader] = {
    "weights, zip": Reader(lambda f: torch.save(_state(), f / "new.pt"), _read_weights),
    "weights, old": Reader(_write_legacy, _read_weights),
    "weights, safetensors": Reader(_write_weights, _read_weights),
    "model": Reader(lambda f: torch.save(_state(), f / "new.pt"), lambda f: load_model(f / "new.pt")),
    "run's checkpoint": Reader(_write_run_checkpoint, lambda f: RunFolder(f).load_checkpoint(), "checkpoints/*", seal),
    "list, pickle": Reader(_write_pickled_list, _read_lists, share=5),
    "list, text": Reader(_write_text_list, _read_lists, share=5),
    "settings": Reader(_write_settings, _read_settings),
    "settings, typed": Reader(_write_assignments, _read_assignments, share=5),
    "table, CSV": Reader(_write_csv, _read_table, "table*"),
    "table, Parquet": Reader(_write_parquet_table, _read_table, "table*"),
    "scores": Reader(_write_scores, lambda f: read_scores(f / "s.parquet", {"a": 1})),
    "features, npy": Reader(_write_npy, _read_features, share=5),
    "features, npz": Reader(_write_npz, _read_features, share=3),
    "features, Parquet": Reader(_write_parquet, _read_features),
    "features, safetensors": Reader(_write_safetensors, _read_features, share=5),
    "labels": Reader(_write_integers, _read_integers, share=5),
    "images": Reader(_write_images, _read_images, share=3),
    "run folder": Reader(_write_run, _read_run, folder=True),
    "report": Reader(_write_run, _rewrite, folder=True, share=0.1),
    "gallery index": Reader(_write_index, _read_index, "index/*", folder=True),
    "extraction": Reader(_write_work, _read_work, ".out.npz.work/*"),
    "Market-1501": Reader(_write_market, _read_dataset, folder=True),
    "MSMT17": Reader(_write_msmt17, _read_dataset, "*.txt", folder=True),
    "VehicleID": Reader(_write_vehicleid, _read_dataset, "train_test_split/*.txt", folder=True),
    "folder and lists": Reader(_write_plain, _read_plain, folder=True),
    "LMDB": Reader(_write_lmdb, _read_lmdb, "data.mdb"),
}
