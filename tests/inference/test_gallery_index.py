"""An index that grows with its folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reidkit.inference.extraction as extraction
import reidkit.inference.gallery_index as module
from reidkit.errors import CheckpointError, DataError
from reidkit.inference import Embedder, GalleryIndex, load
from reidkit.inference.embedder import Embedded
from reidkit.storage import WorkFolder
from tests.inference.conftest import NAMES, draw_images, save_checkpoint
from tests.tiny import tiny_config


class Killed(BaseException):
    pass


class Counting:
    """An embedder that notes what it embeds, and may be killed after some batches."""

    def __init__(self, embedder: Embedder, batches: int = 1000) -> None:
        self._embedder, self.batches, self.seen = embedder, batches, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def stream(self, paths: list[Path], **options: Any) -> Iterator[Embedded]:
        for number, batch in enumerate(self._embedder.stream(paths, **options)):
            if number == self.batches:
                raise Killed
            self.seen += len(batch.readable)
            yield batch


def check(index: GalleryIndex, embedder: Embedder, expected: list[Path]) -> None:
    """The index, and one read anew from the disk, hold the features of exactly these images."""
    for each in (index, GalleryIndex(index.folder, embedder)):
        assert sorted(each.paths()) == sorted(expected)
        assert len(each) == len(expected)
        np.testing.assert_allclose(each.features(), embedder.embed(each.paths()), atol=1e-6)


def test_it_embeds_what_is_new_and_forgets_what_is_gone(embedder: Embedder, tmp_path: Path) -> None:
    root = tmp_path / "gallery"
    images = draw_images(root / "deep", [*NAMES, *(f"{number}.png" for number in range(14))])
    images[6].write_text("no image")
    counting = Counting(embedder)
    index = GalleryIndex(tmp_path / "index", counting, root)  # type: ignore[arg-type]
    done = index.update(batch_size=8)
    assert (done.kept, done.added, done.dropped, len(done.problems), counting.seen) == (0, 19, 0, 1, 20)
    readable = [path for path in images if path != images[6]]
    check(index, embedder, readable)
    again = index.update()
    assert (again.kept, again.added, again.dropped, len(again.problems), counting.seen) == (19, 0, 0, 1, 20)
    images[0].unlink()
    draw_images(root / "deep", [images[1].name], seed=4)
    os.utime(images[1], ns=(1, 1))
    new = draw_images(root, ["new.png"], seed=3)
    done = index.update()
    assert (done.kept, done.added, done.dropped, counting.seen) == (17, 2, 2, 22)
    check(index, embedder, readable[1:] + new)
    assert not list((tmp_path / "index").glob("000001.*"))


def test_a_kill_loses_only_the_block_at_hand(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_BLOCK", 4)
    images = draw_images(tmp_path / "gallery", [f"{number:02}.png" for number in range(14)])
    killed = Counting(embedder, batches=5)
    index = GalleryIndex(tmp_path / "index", killed, tmp_path / "gallery")  # type: ignore[arg-type]
    with pytest.raises(Killed):
        index.update(batch_size=2)
    check(GalleryIndex(tmp_path / "index", embedder), embedder, images[:8])
    counting = Counting(embedder)
    index = GalleryIndex(tmp_path / "index", counting, tmp_path / "gallery")  # type: ignore[arg-type]
    assert index.update(batch_size=2).kept == 8
    assert counting.seen == 6
    check(index, embedder, images)


def test_small_blocks_are_merged_and_a_kill_amid_that_counts_no_image_twice(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SMALL_BLOCKS", 2)
    index, images = None, []
    for number in range(4):
        images += draw_images(tmp_path / "gallery", [f"{number}.png"], seed=number)
        index = GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery")
        if number == 2:
            # As if killed after the merged block was written and before the others were removed.
            monkeypatch.setattr(WorkFolder, "_remove", lambda self, number: self.blocks.pop(number, None))
        index.update()
        monkeypatch.undo()
        monkeypatch.setattr(module, "_SMALL_BLOCKS", 2)
    assert index is not None
    check(index, embedder, images)
    assert len(list((tmp_path / "index").glob("*.npy"))) == 2


def test_indexes_that_do_not_fit_are_refused(embedder: Embedder, tmp_path: Path) -> None:
    draw_images(tmp_path / "gallery", ["a.png"])
    draw_images(tmp_path / "other", ["a.png"])
    GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery").update()
    changed = load(save_checkpoint(tmp_path / "other.pt", tiny_config("synthetic"), seed=1), device="cpu")
    with pytest.raises(CheckpointError, match=r"whose features cannot be compared .* --index"):
        GalleryIndex(tmp_path / "index", changed, tmp_path / "gallery")
    with pytest.raises(DataError, match=r"not of .*other; name another folder"):
        GalleryIndex(tmp_path / "index", embedder, tmp_path / "other")
    with pytest.raises(DataError, match="holds other files and no index"):
        GalleryIndex(tmp_path / "other", embedder, tmp_path / "gallery")
    with pytest.raises(DataError, match="is no index"):
        GalleryIndex(tmp_path / "absent", embedder)
    with pytest.raises(DataError, match="is no folder"):
        GalleryIndex(tmp_path / "new", embedder, tmp_path / "absent")
    (tmp_path / "index" / "000001.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"000001\.npy is damaged"):
        GalleryIndex(tmp_path / "index", embedder).features()
    (tmp_path / "index" / "000001.json").write_text("[")
    with pytest.raises(DataError, match=r"000001\.json is damaged"):
        GalleryIndex(tmp_path / "index", embedder)


def test_features_of_another_precision_are_refused(checkpoint: Path, embedder: Embedder, tmp_path: Path) -> None:
    """As in extraction: those of 32 and of 16 bits are never mixed."""
    draw_images(tmp_path / "gallery", ["a.png"])
    GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery").update()
    with pytest.raises(CheckpointError, match=r"features of precision 32, not bf16; search with --precision 32, or"):
        GalleryIndex(tmp_path / "index", load(checkpoint, device="cpu", precision="bf16"))


def test_indexes_of_old_versions_are_read(embedder: Embedder, tmp_path: Path) -> None:
    """They do not say their precision."""
    images = draw_images(tmp_path / "gallery", ["a.png", "b.png"])
    index = GalleryIndex(tmp_path / "index", embedder, tmp_path / "gallery")
    index.update()
    header = json.loads((tmp_path / "index" / "index.json").read_text())
    del header["precision"]
    (tmp_path / "index" / "index.json").write_text(json.dumps(header))
    assert set(header) == {"reidkit_index", "checkpoint", "checkpoint_path", "root"}
    check(GalleryIndex(tmp_path / "index", embedder), embedder, images)
