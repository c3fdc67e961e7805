"""Readers of lists, settings, tables, features and images."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from reidkit.datasets import Split, decode_images, load_dataset
from reidkit.pretrain.lists import apply_list, read_list, read_scores, write_list, write_scores
from reidkit.runs import RunFolder, parse_assignment, read_toml, resolve_config
from reidkit.runs.recipes import describe_config
from reidkit.storage import read_features, read_integers, write_features
from tests.fuzz.reader import COUNT, Reader, features, picture
from tests.tiny import SETTINGS, tiny_config

__all__ = ["READERS"]


def _columns() -> dict[str, Any]:
    numbers = np.arange(COUNT)
    return {
        "features": features(),
        "identities": numbers // 4,
        "cameras": numbers % 3,
        "paths": np.array([f"{number:04d}.jpg" for number in numbers]),
    }


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


_ROWS = (
    ("path", "split", "identity", "camera"),
    ("a.png", "train", "1", "c1"),
    ("b.png", "query", "2", "c1"),
    ("b.png", "gallery", "2", "c2"),
    ("a.png", "gallery", "-1", ""),
)


def _write_csv(folder: Path) -> None:
    picture(folder / "a.png")
    picture(folder / "b.png")
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
    np.save(folder / "features.npy", features())


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
        folder / "f.safetensors", columns["features"], list(columns["paths"]), columns["identities"], np.arange(COUNT)
    )


def _read_features(folder: Path) -> None:
    read_features(next(folder.iterdir()))


def _write_integers(folder: Path) -> None:
    np.save(folder / "labels.npy", np.arange(COUNT))
    (folder / "labels.txt").write_text("".join(f"{number}\n" for number in range(COUNT)), encoding="utf-8")
    (folder / "names.csv").write_text("".join(f"person {number}\n" for number in range(COUNT)), encoding="utf-8")


def _read_integers(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        read_integers(file, "identities", COUNT)


def _write_scores(folder: Path) -> None:
    scores = np.linspace(0, 1, COUNT, dtype=np.float32)
    write_scores(folder / "s.parquet", [f"{number}" for number in range(COUNT)], scores, np.arange(COUNT), 3, {"a": 1})


def _write_images(folder: Path) -> None:
    picture(folder / "a.jpg", quality=90)
    picture(folder / "b.jpg", progressive=True)
    picture(folder / "c.png")
    picture(folder / "d.bmp")
    Image.new("RGBA", (9, 7), (9, 8, 7, 6)).save(folder / "e.png")
    Image.fromarray(np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000).save(folder / "f.png")
    Image.new("P", (9, 7)).save(folder / "g.gif")
    picture(folder / "h.tiff", compression="tiff_lzw")


def _read_images(folder: Path) -> None:
    decode_images(sorted(folder.iterdir()), (16, 8), workers=1)


READERS: dict[str, Reader] = {
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
}
