import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reidkit.errors import RunError
from reidkit.reporting.run import Clustering, read_run
from tests.reporting.folders import add_labels, make_run, records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", records())


def _paths(count: int) -> list[Path]:
    return [Path(f"/images/{index}.jpg") for index in range(count)]


def test_reads_a_finished_run(folder: Path) -> None:
    add_labels(folder, 4, [0, 0, -1, 1], _paths(4))
    run = read_run(folder)
    assert run.notes == []
    assert run.config["data"]["target"] == "market"
    assert run.environment["packages"] == {"torch": "2.9.9"}
    assert [epoch.number for epoch in run.epochs] == [0, 1, 2, 3, 4]
    assert [epoch.kind for epoch in run.epochs] == ["", "instances", "clusters", "clusters", "clusters"]
    assert run.epochs[2].metrics["mAP"] == 60.0
    assert run.epochs[2].seconds == {"extract": 1.0, "cluster": 0.5, "train": 3.0, "evaluate": 1.5}
    assert run.clustering is not None
    assert run.clustering.epoch == 4
    assert run.clustering.labels.tolist() == [0, 0, -1, 1]
    assert run.clustering.paths == [str(path) for path in _paths(4)]


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder \(it has no config.toml\); name the folder"):
        read_run(tmp_path)


def test_what_is_missing_becomes_a_note(folder: Path) -> None:
    (folder / "environment.json").unlink()
    (folder / "metrics.jsonl").unlink()
    run = read_run(folder)
    assert (run.environment, run.epochs, run.clustering) == ({}, [], None)
    assert run.notes == ["environment.json is missing or cannot be opened."]


@pytest.mark.parametrize("text", ["mode = ", "\x00", "[data", 'mode = "\\q"'])
def test_a_damaged_configuration_becomes_a_note(folder: Path, text: str) -> None:
    (folder / "config.toml").write_text(text)
    run = read_run(folder)
    assert run.config == {}
    assert run.setting("data", "target", str) is None
    assert [note.split(" (")[0] for note in run.notes if "config" in note] == ["config.toml is damaged"]


def test_an_environment_that_is_no_table_becomes_a_note(folder: Path) -> None:
    (folder / "environment.json").write_text("[1, 2]")
    run = read_run(folder)
    assert run.environment == {}
    assert "environment.json is damaged (it holds no table)." in run.notes


def test_settings_of_another_kind_are_not_given(folder: Path) -> None:
    (folder / "config.toml").write_text('training = "long"\n[data]\ntarget = 3\n')
    run = read_run(folder)
    assert run.setting("data", "target", str) is None
    assert run.setting("data", "target", int) == 3
    assert run.setting("training", "epochs", int) is None


def test_damaged_lines_are_left_out_and_named(folder: Path) -> None:
    lines = [json.dumps(record).encode() for record in records()[:2]]
    lines += [b'{"epoch": 2, "loss": 1.', b"\xff\xfe", b"[1]", b'{"loss": 1}', b'{"epoch": "3"}', b"null", b"{}"]
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    run = read_run(folder)
    assert [epoch.number for epoch in run.epochs] == [0, 1]
    assert run.notes == ["metrics.jsonl has damaged lines, which are left out: 3, 4, 5, 6, 7, ...."]


def test_of_two_lines_about_an_epoch_the_later_counts(folder: Path) -> None:
    lines = [{"epoch": 1, "loss": 3.0}, {"epoch": 0, "mAP": 1.0}, {"epoch": 1, "loss": 2.0}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [(epoch.number, epoch.metrics) for epoch in read_run(folder).epochs] == [
        (0, {"epoch": 0.0, "mAP": 1.0}),
        (1, {"epoch": 1.0, "loss": 2.0}),
    ]


def test_only_finite_numbers_are_metrics(folder: Path) -> None:
    line = '{"epoch": 1, "loss": NaN, "noise": Infinity, "mAP": "high", "clusters": null, "images": 3, "seconds": 4}'
    (folder / "metrics.jsonl").write_text(line)
    (epoch,) = read_run(folder).epochs
    assert epoch.metrics == {"epoch": 1.0, "images": 3.0, "seconds": 4.0}
    assert epoch.seconds == {}


def test_labels_of_epochs_that_did_not_train_on_clusters_are_passed_over(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", records()[:2])
    add_labels(folder, 1, [0, 1, 2], _paths(3))
    run = read_run(folder)
    assert run.clustering is None
    assert run.notes == []


def test_falls_back_on_the_newest_readable_labels(folder: Path) -> None:
    add_labels(folder, 2, [0, 0, 1, 1], _paths(4))
    add_labels(folder, 4, [0, 0, 1, 1], _paths(4))
    (folder / "labels" / "epoch_004.npz").write_bytes(b"PK\x03\x04 but no more")
    run = read_run(folder)
    assert run.clustering is not None
    assert run.clustering.epoch == 2
    (note,) = run.notes
    assert note.startswith("labels/epoch_004.npz is damaged (BadZipFile).")
    assert note.endswith("Those of 1 earlier epoch cannot be read either. The clusters shown are those of epoch 2.")


def test_says_when_no_labels_are_readable(folder: Path) -> None:
    run = read_run(folder)
    assert run.clustering is None
    assert run.notes == [
        "labels/epoch_004.npz is missing or cannot be opened. Those of 2 earlier epochs cannot be read "
        "either. No clusters can be shown."
    ]


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": np.arange(3)},
        {"labels": np.arange(3), "paths": np.array(["a", "b"])},
        {"labels": np.zeros((3, 1), np.int64), "paths": np.array([["a"], ["b"], ["c"]])},
        {"labels": np.zeros(2), "paths": np.array(["a", "b"])},
        {"labels": np.arange(2), "paths": np.array([1, 2])},
        {"labels": np.arange(2), "paths": np.array(["a", None], dtype=object)},
    ],
)
def test_labels_of_another_shape_are_damaged(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    (folder / "labels").mkdir()
    np.savez(folder / "labels" / "epoch_004.npz", **arrays)  # type: ignore[arg-type]
    run = read_run(folder)
    assert run.clustering is None
    assert run.notes[0].startswith("labels/epoch_004.npz is damaged (")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_labels_are_damaged(folder: Path, share: float) -> None:
    add_labels(folder, 4, np.arange(200) // 4, _paths(200))
    path = folder / "labels" / "epoch_004.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    run = read_run(folder)
    assert run.clustering is None
    assert "damaged" in run.notes[0]


def test_a_flipped_byte_is_damage(folder: Path) -> None:
    add_labels(folder, 4, np.arange(200) // 4, _paths(200))
    path = folder / "labels" / "epoch_004.npz"
    content = bytearray(path.read_bytes())
    content[120] ^= 0xFF
    path.write_bytes(content)
    assert read_run(folder).clustering is None


def test_clusters_are_counted() -> None:
    labels = np.random.default_rng(0).integers(-1, 20, 300)
    clustering = Clustering(1, labels, ["x"] * 300)
    expected = Counter(labels.tolist())
    assert clustering.noise == expected.pop(-1)
    assert [row.tolist() for row in clustering.clusters] == [sorted(expected), [expected[k] for k in sorted(expected)]]
