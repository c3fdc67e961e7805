import logging
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from reidkit.datasets import Split
from reidkit.errors import DataError
from reidkit.pretrain.lists import apply_list, read_list, read_scores, relative_names, write_list, write_scores

NAMES = ["b/2.jpg", "a/1.jpg", "ä 雪.png", "'q\\n\".jpg", "a/x" * 100, "😀.jpg"]
HEAD = b"\x80\x04"


def split_of(root: Path, names: list[str]) -> Split:
    return Split(tuple(root / name for name in names), np.arange(len(names)), np.arange(len(names)) % 3)


def pickled(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "list.pkl").write_bytes(data)
    return tmp_path / "list.pkl"


@pytest.mark.parametrize("name", ["list.txt", "list", "list.pkl", "LIST.PICKLE"])
def test_lists_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    write_list(tmp_path / name, NAMES)
    assert read_list(tmp_path / name) == NAMES
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_published_layout_is_a_pickled_list_that_old_code_reads(tmp_path: Path) -> None:
    write_list(tmp_path / "list.pkl", NAMES)
    data = (tmp_path / "list.pkl").read_bytes()
    assert data[:2] == b"\x80\x02"
    assert pickle.loads(data) == NAMES
    write_list(tmp_path / "list.txt", NAMES[:3])
    assert (tmp_path / "list.txt").read_bytes() == "b/2.jpg\na/1.jpg\nä 雪.png\n".encode()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 2500])
def test_pickles_of_every_protocol(tmp_path: Path, protocol: int, kind: Callable[..., Any], count: int) -> None:
    names = [f"{number % 1900}.jpg" for number in range(count - 1)] + ["ü\n\\u0041" * 60]
    same = {name: name for name in names}  # equal names are one object, which the pickle refers to
    data = pickle.dumps(kind(same[name] for name in names), protocol=protocol)
    assert read_list(pickled(tmp_path, data)) == names


def test_text_of_python_2(tmp_path: Path) -> None:
    data = b"\x80\x02]q\x00(U\x05a.jpgq\x01T\x05\x00\x00\x00b.jpgq\x02e."
    assert pickle.loads(data) == ["a.jpg", "b.jpg"]
    assert read_list(pickled(tmp_path, data)) == ["a.jpg", "b.jpg"]


def test_text_is_read_as_editors_leave_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\r\n b\x0c.jpg \n\n\xc2\x85c.jpg")
    assert read_list(tmp_path / "list.txt") == ["a.jpg", " b\x0c.jpg ", "\x85c.jpg"]


def test_a_pickle_is_known_by_its_content_too(tmp_path: Path) -> None:
    pickled(tmp_path, pickle.dumps(NAMES)).rename(tmp_path / "list.txt")
    assert read_list(tmp_path / "list.txt") == NAMES


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: ["a.jpg", bomb]])
def test_nothing_in_a_pickle_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, wrap: Callable[[_Bomb], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"list\.pkl was not read: it asks for '.+', which is code.* pickled list of text"
    ):
        read_list(pickled(tmp_path, pickle.dumps(wrap(_Bomb()), protocol=protocol)))
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"cos\nsystem\n(U\x05touchtR.", "asks for 'os.system', which is code"),
        (b"(U\x05touchios\nsystem\n.", "asks for 'os.system', which is code"),
        (HEAD + b"\x8c\x02os\x8c\x06system\x93.", "asks for 'os.system', which is code"),
        (HEAD + b"P1\n.", "persistent id"),
        (pickle.dumps({"a.jpg": 1}), "holds a dict of other things than text"),
        (pickle.dumps(["a.jpg", 1]), "holds a list of other things than text"),
        (pickle.dumps([["a.jpg"]]), "holds a list of other things than text"),
        (pickle.dumps("a.jpg"), "holds a str of other things than text"),
    ],
)
def test_everything_but_flat_lists_of_text_is_refused(tmp_path: Path, data: bytes, what: str) -> None:
    with pytest.raises(DataError, match=r"list\.pkl was not read: .* A published list is a pickled list") as refused:
        read_list(pickled(tmp_path, data))
    assert what in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage" * 100,
        b"\xff" * 20,
        HEAD,
        pickle.dumps(NAMES)[:-1],
        pickle.dumps(NAMES)[:-40],
        HEAD + b"]h\x07a.",
        HEAD + b"]X\xff\xff\xff\xffa.",
        HEAD + b"]\x8c\x01\xffa.",
        b"c\xff\n\xff\n.",
    ],
)
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"list\.pkl was not read: .* download it again"):
        read_list(pickled(tmp_path, data))


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt cannot be read \(No such file"):
        read_list(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="Is a directory"):
        read_list(tmp_path)
    for data, words in ((b" \n\n", "names no images"), (b"\xe4.jpg\n", "neither UTF-8 text nor a pickle")):
        (tmp_path / "list.txt").write_bytes(data)
        with pytest.raises(DataError, match=words):
            read_list(tmp_path / "list.txt")
    with pytest.raises(DataError, match="names no images"):
        read_list(pickled(tmp_path, pickle.dumps([])))


@pytest.mark.parametrize("name", ["a\n.jpg", "a\r.jpg"])
def test_line_breaks_need_a_pickle(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"holds a line break.*write a \.pkl"):
        write_list(tmp_path / "list.txt", ["b.jpg", name])
    assert not list(tmp_path.iterdir())
    write_list(tmp_path / "list.pkl", [name])
    assert read_list(tmp_path / "list.pkl") == [name]


def test_many_names_are_read_in_a_second(tmp_path: Path) -> None:
    names = [f"images/{number:07d}.jpg" for number in range(250_000)]
    write_list(tmp_path / "list.pkl", names)
    start = time.process_time()
    found = read_list(tmp_path / "list.pkl")
    assert time.process_time() - start < 3
    assert found == names


def test_names_are_relative_to_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert relative_names([tmp_path / "a/1.jpg", tmp_path / "2.jpg"], tmp_path) == ["a/1.jpg", "2.jpg"]
    table = tmp_path / "table.csv"
    table.touch()
    assert relative_names([tmp_path / "a/1.jpg"], table) == ["a/1.jpg"]
    monkeypatch.chdir(tmp_path)
    assert relative_names([Path("a/1.jpg")], Path()) == ["a/1.jpg"]
    assert relative_names([Path("table.jpg")], Path("table.csv")) == ["table.jpg"]
    assert relative_names([Path("/a/1.jpg")], Path("/")) == ["a/1.jpg"]


@pytest.mark.parametrize(
    ("path", "root"),
    [("/elsewhere/1.jpg", "/data"), ("/data2/1.jpg", "/data"), ("/data/../1.jpg", "/data"), ("/1.jpg", ".")],
)
def test_images_elsewhere_have_no_name(path: str, root: str) -> None:
    with pytest.raises(DataError, match="is outside"):
        relative_names([Path(path)], Path(root))


def test_names_are_unicode() -> None:
    with pytest.raises(DataError, match="is not valid Unicode; rename the file"):
        relative_names([Path("/data/a\udce4.jpg")], Path("/data"))


def test_a_list_chooses_from_a_split_in_the_order_of_the_split(tmp_path: Path) -> None:
    split = split_of(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg", "4.jpg"])
    chosen = apply_list(
        split, tmp_path, [str(tmp_path / "b/3.jpg"), "elsewhere/2.jpg", "./a//1.jpg", "4.jpg", "a/1.jpg"]
    )
    assert [path.relative_to(tmp_path).as_posix() for path in chosen.paths] == [
        "a/1.jpg",
        "a/2.jpg",
        "b/3.jpg",
        "4.jpg",
    ]
    assert chosen.identities.tolist() == [0, 1, 3, 4]
    assert chosen.cameras.tolist() == [0, 1, 0, 1]
    assert apply_list(split, tmp_path, ["b\\1.jpg"]).paths == (tmp_path / "b/1.jpg",)


def test_names_without_an_image_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = split_of(tmp_path, ["a/1.jpg", "b/1.jpg", "2.jpg"])
    with caplog.at_level(logging.WARNING, "reidkit"):
        assert len(apply_list(split, tmp_path, ["2.jpg", "1.jpg", "absent.jpg"])) == 1
    (message,) = caplog.messages
    assert message.startswith(f"2 of 3 names in the list fit no image of {tmp_path} (or several, by base name)")
    assert "for instance '1.jpg'" in message
    with pytest.raises(DataError, match=r"1 of 1 names .* 'absent\.jpg'; no image is left"):
        apply_list(split, tmp_path, ["absent.jpg"])
    with pytest.raises(DataError, match="the list is empty; no image is left"):
        apply_list(split, tmp_path, [])


@pytest.mark.parametrize("name", ["../2.jpg", "/elsewhere/2.jpg", "..\\2.jpg", "/data/../x/2.jpg", "/database/2.jpg"])
def test_lists_made_elsewhere_fit_by_base_name(name: str) -> None:
    """Published lists have the paths of their authors' machines."""
    split = split_of(Path("/data"), ["a/1.jpg", "b/2.jpg"])
    assert apply_list(split, Path("/data"), [name]).paths == (Path("/data/b/2.jpg"),)


def test_the_table_of_scores(tmp_path: Path) -> None:
    path, inputs = tmp_path / "scores.parquet", {"size": [2, 1]}
    scores, order = np.array([0.5, np.nan, 0.75], np.float32), np.array([2, 0, 1])
    write_scores(path, ["a", "b", "c"], scores, order, 1, inputs)
    assert parquet.read_table(path).to_pydict() == {
        "name": ["a", "b", "c"],
        "score": [0.5, None, 0.75],
        "rank": [2, 3, 1],
        "kept": [False, False, True],
    }
    found = read_scores(path, inputs)
    np.testing.assert_array_equal(found, scores)
    assert found is not None
    assert found.dtype == np.float32
    assert read_scores(path, {"size": [4, 2]}) is None
    assert read_scores(tmp_path / "absent.parquet", inputs) is None
    parquet.write_table(pa.table({"score": [1.0]}), path)
    assert read_scores(path, inputs) is None
    path.write_bytes(struct.pack("d", 1.0))
    assert read_scores(path, inputs) is None
