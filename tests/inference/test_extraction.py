"""Feature files, and work that survives a kill."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reidkit.inference.extraction as module
from reidkit.datasets import Split
from reidkit.errors import DataError, RunError
from reidkit.inference import Embedder, extract_to_file, find_images
from reidkit.inference.embedder import Embedded
from reidkit.storage.feature_files import read_features
from reidkit.storage.locks import sole_writer
from tests.inference.conftest import NAMES, draw_images


class Killed(BaseException):
    pass


class Counting:
    """An embedder that notes what it embeds, and may be killed after some batches."""

    precision: str

    def __init__(self, embedder: Embedder, batches: int = 1000) -> None:
        self._embedder, self._batches, self.seen = embedder, batches, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def stream(self, paths: list[Path], **options: Any) -> Iterator[Embedded]:
        for number, batch in enumerate(self._embedder.stream(paths, **options)):
            if number == self._batches:
                raise Killed
            self.seen += len(batch.readable)
            yield batch


@pytest.fixture
def images(tmp_path: Path) -> Split:
    paths = draw_images(tmp_path / "images", [*NAMES, *(f"{number}.png" for number in range(20))])
    paths[7].write_text("no image")
    return find_images([str(tmp_path / "images")])


def readable(images: Split) -> Split:
    return images.subset(np.array([path.name != "1.png" for path in images.paths]))


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_files_are_read_back(embedder: Embedder, images: Split, tmp_path: Path, suffix: str) -> None:
    images = Split(images.paths, np.arange(26) // 5, np.arange(26) % 3)
    output = tmp_path / f"features{suffix}"
    done = extract_to_file(embedder, images, output, batch_size=8)
    assert (done.rows, done.resumed, len(done.problems)) == (25, 0, 1)
    assert done.problems[0].startswith(str(tmp_path / "images" / "1.png"))
    stored, good = read_features(output), readable(images)
    np.testing.assert_allclose(stored.features, embedder.embed(good.paths), atol=1e-6)
    assert stored.identities is not None
    assert stored.cameras is not None
    np.testing.assert_array_equal(stored.identities, good.identities)
    np.testing.assert_array_equal(stored.cameras, good.cameras)
    names = stored.paths
    if suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(output, framework="np") as opened:
            names = json.loads(opened.metadata()["paths"])
    assert names == [str(path) for path in good.paths]
    assert {path.name for path in tmp_path.iterdir()} == {"images", output.name}


def test_a_killed_extraction_goes_on_and_does_nothing_twice(
    embedder: Embedder, images: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    whole, output = tmp_path / "whole.npz", tmp_path / "features.npz"
    extract_to_file(embedder, images, whole, batch_size=4)
    with pytest.raises(Killed):
        extract_to_file(Counting(embedder, 3), images, output, batch_size=4)  # type: ignore[arg-type]
    assert not output.exists()
    work = tmp_path / ".features.npz.work"
    assert len(list(work.glob("[0-9]*.json"))) == 3
    # A kill between the two files of a block leaves features that do not count.
    (work / "000004.npy").write_bytes(b"half a block")
    again = Counting(embedder)
    done = extract_to_file(again, images, output, batch_size=4)  # type: ignore[arg-type]
    assert (done.resumed, again.seen) == (12, 14)
    np.testing.assert_array_equal(read_features(output).features, read_features(whole).features)
    assert read_features(output).paths == read_features(whole).paths
    assert not work.exists()


def kill(embedder: Embedder, images: Split, output: Path) -> Path:
    """Stop an extraction after three blocks of four images; return its work folder."""
    with pytest.raises(Killed):
        extract_to_file(Counting(embedder, 3), images, output, batch_size=4)  # type: ignore[arg-type]
    return output.with_name(f".{output.name}.work")


@pytest.mark.parametrize("change", ["image", "precision", "version"])
def test_other_work_starts_from_the_beginning(
    embedder: Embedder, images: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    output = tmp_path / "features.npz"
    work = kill(embedder, images, output)
    if change == "image":
        draw_images(tmp_path / "images", ["0.png"], seed=5)
    elif change == "version":
        (work / "key.json").rename(work / "state.json")
        (work / "features.f32").write_bytes(b"of an earlier version")
    else:
        monkeypatch.setattr(embedder, "precision", "bf16")
    done = extract_to_file(embedder, images, output, batch_size=4)
    assert done.resumed == 0
    expected = embedder.embed(readable(images).paths)
    np.testing.assert_allclose(read_features(output).features, expected, atol=1e-6)
    assert not work.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("key.json", "{"),
        ("000002.json", "["),
        ("000002.npy", "short"),
        ("000002.json", '{"problems": [], "replaces": []}'),
        ("000002.json", '{"readable": [true, 3], "problems": [], "replaces": []}'),
        ("000002.json", '{"readable": [true, false], "problems": [], "replaces": []}'),
        ("000002.json", f'{{"readable": [{"true, " * 30}true], "problems": [], "replaces": []}}'),
    ],
)
def test_damaged_work_is_refused(
    embedder: Embedder, images: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    work = kill(embedder, images, tmp_path / "features.npz")
    (work / name).write_text(content)
    with pytest.raises(DataError, match=rf"is damaged .*remove the folder {work}"):
        extract_to_file(embedder, images, tmp_path / "features.npz", batch_size=4)
    assert not (tmp_path / "features.npz").exists()


def test_strict_and_nothing_readable(embedder: Embedder, images: Split, tmp_path: Path) -> None:
    output = tmp_path / "features.npz"
    with pytest.raises(DataError, match=r"unreadable image .*1\.png"):
        extract_to_file(embedder, images, output, strict=True)
    only = images.subset(np.array([path.name == "1.png" for path in images.paths]))
    with pytest.raises(DataError, match="none of 1 images is readable"):
        extract_to_file(embedder, only, output)
    assert not output.exists()


def test_two_at_once_and_other_suffixes_are_refused(embedder: Embedder, images: Split, tmp_path: Path) -> None:
    with sole_writer(tmp_path / ".a.npz.work"), pytest.raises(RunError, match="another process writes"):
        extract_to_file(embedder, images, tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"suffix '.npy', which is none of"):
        extract_to_file(embedder, images, tmp_path / "a.npy")
