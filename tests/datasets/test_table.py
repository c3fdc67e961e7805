from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from reidkit.datasets import load_dataset
from reidkit.errors import DataError
from tests.datasets.test_benchmarks import rows

COLUMNS: dict[str, list[str]] = {
    "path": ["in/a.jpg", "in/b.JPG", "in/c.png", "in/d.jpg", "in/e.jpg", "in/f.jpg"],
    "split": ["train", "Train", "train", "query", "gallery", "gallery"],
    "identity": ["40", "7", "", "3", "3", "-1"],
    "camera": ["10", "9", "9", "", "10", "9"],
}


def images(folder: Path) -> Path:
    (folder / "in").mkdir(parents=True)
    for path in COLUMNS["path"]:
        (folder / path).write_bytes(b"")
    return folder


def csv(folder: Path, **changes: list[str]) -> str:
    columns = {name: values for name, values in (COLUMNS | changes).items() if values}
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    (folder / "people.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "people.csv")


def test_identities_cameras_and_splits(tmp_path: Path) -> None:
    dataset = load_dataset(csv(images(tmp_path)))
    assert rows(dataset) == [
        [("a.jpg", 1, 1), ("b.JPG", 0, 0), ("c.png", -1, 0)],  # cameras sorted as numbers: 9 before 10
        [("d.jpg", 3, -1)],
        [("e.jpg", 3, 1)],  # junk is dropped
    ]
    assert (dataset.name, dataset.version) == ("people", "CSV table")
    assert rows(load_dataset("people.csv", tmp_path)) == rows(dataset)


def test_parquet_with_gaps_equals_csv(tmp_path: Path) -> None:
    expected = rows(load_dataset(csv(images(tmp_path))))
    numbers = {name: [float(text) if text else None for text in COLUMNS[name]] for name in ("identity", "camera")}
    parquet.write_table(pyarrow.table(COLUMNS | numbers | {"other": [1] * 6}), tmp_path / "people.Parquet")
    dataset = load_dataset(str(tmp_path / "people.Parquet"))
    assert rows(dataset) == expected
    assert dataset.version == "Parquet table"


def test_names_instead_of_numbers(tmp_path: Path) -> None:
    identity, camera = ["zoe", "ann", "", "bob", "bob", "-1"], ["hall", "door", "", "door", "hall", "hall"]
    dataset = load_dataset(csv(images(tmp_path), identity=identity, camera=camera))
    assert rows(dataset) == [
        [("a.jpg", 1, 1), ("b.JPG", 0, 0), ("c.png", -1, -1)],
        [("d.jpg", 2, 0)],
        [("e.jpg", 2, 1)],
    ]


def test_a_table_without_labels_is_an_unlabelled_training_set(tmp_path: Path) -> None:
    dataset = load_dataset(csv(images(tmp_path), identity=[], camera=[], split=["train"] * 6))
    assert [len(split) for split in rows(dataset)] == [6, 0, 0]
    assert {row[1:] for row in rows(dataset)[0]} == {(-1, -1)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": ["test"] * 6}, r"people\.csv, row 1: path 'in/a\.jpg', split 'test'; a table needs"),
        ({"split": []}, r"has no column split; its columns are path, identity, camera"),
        ({"split": [], "path": []}, r"has no column path and no column split"),
        ({"path": ["in/z.jpg", *COLUMNS["path"][1:]]}, r"1 of 6 images that .*people\.csv names do not exist.*z\.jpg"),
        ({"identity": ["1", "2", "3", "", "5", "6"]}, r"the query image .*d\.jpg has no identity"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(csv(images(tmp_path), **changes))


@pytest.mark.parametrize("name", ["broken.csv", "broken.parquet"])
@pytest.mark.parametrize("content", [b"", b"path,split\nonly one\n"])
def test_what_is_no_table_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} cannot be read as a table .*needs the columns path and split"):
        load_dataset(str(tmp_path / name))
