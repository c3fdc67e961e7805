"""Hostile inputs that were once read wrongly, each with what it did."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import Split, decode_images, load_dataset
from reidkit.errors import ConfigError, DataError, RunError
from reidkit.inference import find_images
from reidkit.inference.calibration import read_calibration
from reidkit.inference.gallery_index import is_index
from reidkit.pages.thumbnails import open_picture
from reidkit.reporting.run import read_run
from reidkit.runs import RunFolder, parse_assignment, read_toml, resolve_config
from reidkit.storage.feature_files import read_integers
from reidkit.storage.safe_open import open_file
from tests.fuzz.campaign import check, write_input
from tests.fuzz.readers import READERS


def lay_out(reader: str, folder: Path) -> Path:
    READERS[reader].write(folder)
    return folder


def problem_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        decode_images([path], (16, 8), workers=1)
    return str(caught.value)


# -- images -----------------------------------------------------------------------------------------------------------


def test_postscript_in_the_name_of_an_image_starts_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow hands EPS to Ghostscript, which runs what it says."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n", encoding="utf-8")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert "not an image of a known format" in problem_of(tmp_path / "a.jpg")
    assert not (tmp_path / "canary").exists()


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


# -- arrays and tables ------------------------------------------------------------------------------------------------


def test_one_long_name_does_not_lengthen_all_others(tmp_path: Path) -> None:
    """As an array of text these 4 MB would take 400 GB."""
    names = ["x" * 1_000_000, *(f"{number}" for number in range(99_999))]
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    numbers = read_integers(tmp_path / "names.txt", "identities", 100_000)
    assert len(np.unique(numbers)) == 100_000
    assert numbers[0] == 99_999


@pytest.mark.parametrize("content", [b"path,split\n\xff.jpg,train\n", b"path,split\n%s,train\n" % (b"a" * 5000)])
def test_tables_with_names_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"UTF|do not exist"):
        load_dataset(str(tmp_path / "table.csv"))


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a" + ".b" * 5000 + " = 1", "a = " + "9" * 5000, "a = " + "{a=" * 5000]
)
def test_settings_that_exhaust_the_stack(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        resolve_config([read_toml(tmp_path / "config.toml")])
    with pytest.raises(ConfigError):
        resolve_config([parse_assignment(text.replace("a = ", "seed=", 1))])
    with pytest.raises(RunError):
        RunFolder(tmp_path).read_config()


def test_long_values_are_not_shown_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config([{"seed": "x" * 100_000}])
    assert len(str(caught.value)) < 1000


# -- folders ----------------------------------------------------------------------------------------------------------


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """Opening a pipe waits for a writer for ever; /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a file"):
            open_file(path)


def test_pipes_in_a_run_folder(tmp_path: Path) -> None:
    lay_out("run folder", tmp_path)
    for name in ("environment.json", "metrics.jsonl", "labels/epoch_002.npz"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    assert read_run(tmp_path).epochs == []
    assert RunFolder(tmp_path).load_labels(2) is None


@pytest.mark.parametrize(
    "line", ['{"epoch": -1}', '{"epoch": true}', '{"epoch": 1e3}', '{"epoch":' + "[" * 5000, "\x00"]
)
def test_strange_lines_of_metrics(tmp_path: Path, line: str) -> None:
    lay_out("run folder", tmp_path)
    (tmp_path / "metrics.jsonl").write_text(f'{{"epoch": 3, "loss": {"9" * 400}}}\n{line}\n', encoding="utf-8")
    run = read_run(tmp_path)
    assert [(epoch.number, epoch.figures) for epoch in run.epochs] == [(3, {"epoch": 3.0})]
    assert "damaged lines, which are left out: 2" in " ".join(run.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", '{"reidkit_index": 1}'),
        ("index.json", '{"reidkit_index": 1, "root": 3}'),
        ("000001.json", '{"images": [[3, 1, 1]], "unreadable": [], "replaces": []}'),
        ("000001.json", '{"images": [["a.png", 1]], "unreadable": [], "replaces": []}'),
        ("000001.json", '{"images": [], "unreadable": [], "replaces": ["../../x"]}'),
        ("000001.json", "[" * 5000),
        ("0x.json", '{"images": [], "unreadable": [], "replaces": []}'),
    ],
)
def test_indices_that_are_damaged(tmp_path: Path, name: str, content: str) -> None:
    lay_out("gallery index", tmp_path)
    (tmp_path / "index" / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        READERS["gallery index"].read(tmp_path)


def test_json_that_exhausts_the_stack(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("[" * 5000, encoding="utf-8")
    assert not is_index(tmp_path)
    with pytest.raises(DataError, match="is damaged"):
        read_calibration(tmp_path / "index.json")


def test_numbers_in_names_that_fit_no_integer(tmp_path: Path) -> None:
    lay_out("Market-1501", tmp_path)
    for name in ("9" * 20 + "_c1.jpg", f"0007_c{'9' * 20}.jpg"):
        shutil.copy(tmp_path / "query" / "0001_c1s1_000001_00.jpg", tmp_path / "bounding_box_train" / name)
    train = load_dataset(str(tmp_path)).train
    known = {path.name: (identity, camera) for path, identity, camera in zip(*_columns(train), strict=True)}
    assert known["9" * 20 + "_c1.jpg"] == (-1, -1)
    assert known[f"0007_c{'9' * 20}.jpg"][1] == -1


def _columns(split: Split) -> tuple[tuple[Path, ...], list[int], list[int]]:
    return split.paths, split.identities.tolist(), split.cameras.tolist()


def test_pictures_on_pages_are_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert open_picture(tmp_path / "a.jpg", (8, 8)) == "unreadable"


def test_damaged_metrics_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("[" * 5000, encoding="utf-8")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        RunFolder(tmp_path).read_metrics()


def test_links_to_themselves(tmp_path: Path) -> None:
    lay_out("folder and lists", tmp_path)
    for name in ("loop", "loop.jpg", "deep/loop"):
        (tmp_path / name).symlink_to(tmp_path / name)
    assert len(find_images([str(tmp_path)]).paths) == 3
    (tmp_path / "list.txt").unlink()
    (tmp_path / "list.txt").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="cannot be read"):
        find_images([str(tmp_path / "list.txt")])


def test_broken_links_in_a_gallery(tmp_path: Path) -> None:
    lay_out("gallery index", tmp_path)
    (tmp_path / "photos" / "c.png").symlink_to("nowhere")
    READERS["gallery index"].read(tmp_path)


def test_metadata_of_parquet_on_which_arrow_ends_the_process(tmp_path: Path) -> None:
    """Statistics that do not fit their column: reading them throws what Python never sees."""
    lay_out("table, Parquet", tmp_path)
    for number in (1975, 2153):
        folder = tmp_path / str(number) / "input"
        folder.mkdir(parents=True)
        (folder.parent / "elsewhere").mkdir()
        write_input("table, Parquet", number, 1, folder)
        assert not check("table, Parquet", folder).problem


def test_scores_with_damaged_text_are_made_anew(tmp_path: Path) -> None:
    write_input("scores", 431, 1, tmp_path)
    READERS["scores"].read(tmp_path)
