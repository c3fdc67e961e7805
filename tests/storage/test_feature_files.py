from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from safetensors.torch import save_file

from reidkit.errors import DataError, RunError
from reidkit.storage.feature_files import read_features, read_integers, write_features, write_labels
from tests.injected_faults import full_disk

FEATURES = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
IDENTITIES = np.array([0, 0, 1, 1, 2, -1, -2])
CAMERAS = np.array(["east", "east", "west", "", "north", "west", "east"])
NUMBERED = [0, 0, 2, -1, 1, 2, 0]
PATHS = np.array([f"{number}.jpg" for number in range(7)])


def npy(path: Path, features: NDArray[Any] = FEATURES) -> Path:
    np.save(path, features)
    return path


def table(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_npy(tmp_path: Path) -> None:
    found = read_features(npy(tmp_path / "f.npy"))
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found[1:] == (None, None, None)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", features=FEATURES, identities=IDENTITIES, cameras=CAMERAS, paths=PATHS, other=PATHS)
    found = read_features(tmp_path / "f.npz")
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.identities is not None
    assert found.cameras is not None
    assert found.identities.tolist() == [0, 0, 1, 1, 2, -1, -1]
    assert found.cameras.tolist() == NUMBERED
    assert found.paths == PATHS.tolist()


def test_safetensors(tmp_path: Path) -> None:
    tensors = {"features": torch.from_numpy(FEATURES).bfloat16(), "identities": torch.from_numpy(IDENTITIES)}
    save_file(tensors, tmp_path / "f.safetensors")
    found = read_features(tmp_path / "f.safetensors")
    np.testing.assert_allclose(found.features, FEATURES, rtol=1e-2)
    assert found.features.dtype == np.float32
    assert found.identities is not None
    assert found.identities.tolist() == [0, 0, 1, 1, 2, -1, -1]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)])
def test_parquet_of_lists(tmp_path: Path, kind: Any) -> None:
    path = table(
        tmp_path / "f.parquet",
        {
            "paths": PATHS.tolist(),
            "features": pa.chunked_array(
                [pa.array(FEATURES[:4].tolist(), kind), pa.array(FEATURES[4:].tolist(), kind)]
            ),
            "identities": pa.array([0, 0, 1, 1, 2, None, None], pa.int32()),
            "cameras": pa.array([name or None for name in CAMERAS.tolist()]).dictionary_encode(),
            "comment": ["x"] * 7,
        },
    )
    found = read_features(path)
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.identities is not None
    assert found.cameras is not None
    assert found.identities.tolist() == [0, 0, 1, 1, 2, -1, -1]
    assert found.cameras.tolist() == NUMBERED
    assert found.paths == PATHS.tolist()


def test_parquet_of_numbers(tmp_path: Path) -> None:
    columns = {"__index_level_0__": list(range(7)), "a": FEATURES[:, 0], "identities": IDENTITIES, "b": FEATURES[:, 1]}
    found = read_features(table(tmp_path / "f.parquet", columns))
    np.testing.assert_array_equal(found.features, FEATURES[:, :2])
    assert found.identities is not None


@pytest.mark.parametrize(
    ("given", "expected"), [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), (">f4", "f4"), ("i2", "f4"), ("u1", "f4")]
)
def test_types_of_numbers(tmp_path: Path, given: str, expected: str) -> None:
    values = np.arange(12).reshape(4, 3)
    found = read_features(npy(tmp_path / "f.npy", values.astype(given))).features
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(expected)


def _broken(values: dict[tuple[int, int], float]) -> NDArray[np.float32]:
    features = np.zeros((20_000, 3), np.float32)
    for place, value in values.items():
        features[place] = value
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FEATURES[0], r"shape \(3,\) and type float32; needed are real numbers of shape \(N, D\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.zeros((3, 0)), r"shape \(3, 0\)"),
        (FEATURES.astype(complex), "type complex128"),
        (FEATURES.astype(str), "type object"),
        (
            _broken({(9, 0): np.nan, (9, 1): -np.inf, (15_000, 2): np.nan}),
            "2 NaN and 1 infinite values, in 2 of 20,000 rows, the first in row 9; drop these rows",
        ),
    ],
)
def test_features_that_are_none(tmp_path: Path, features: NDArray[Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read_features(npy(tmp_path / "f.npy", features))
    assert str(tmp_path / "f.npy") in str(refused.value)


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    bombs = np.array([[_Bomb()]], dtype=object)
    if suffix == ".npy":
        np.save("f.npy", bombs, allow_pickle=True)
    else:
        np.savez("f.npz", features=bombs)
    with pytest.raises(DataError, match=f"f{suffix} cannot be read .*Object arrays cannot be loaded"):
        read_features(Path(f"f{suffix}"))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"f{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"f{suffix} cannot be read as a {suffix} file \(.+\); write it again"):
        read_features(tmp_path / f"f{suffix}")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"absent\.npy does not exist; name a file of the kinds \.npy, \.npz, \.parquet"
    ):
        read_features(tmp_path / "absent.npy")
    with pytest.raises(DataError, match=r"has no features\.npz: .*finish the run"):
        read_features(tmp_path)
    (tmp_path / "f.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"suffix '\.pkl', which is none of \.npy, .*convert it"):
        read_features(tmp_path / "f.pkl")


def test_missing_features_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", embeddings=FEATURES)
    save_file({"embeddings": torch.from_numpy(FEATURES)}, tmp_path / "f.safetensors")
    for name in ("f.npz", "f.safetensors"):
        with pytest.raises(DataError, match=rf"{name} has no array `features` \(found: embeddings\)"):
            read_features(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"paths": ["a"]}, r"neither a column `features` of lists .*\(found: paths\)"),
        ({"a": [0.5], "frame": [3]}, r"\(found: a, frame\)"),
        ({"features": [[1.0], [1.0, 2.0]]}, "features of different lengths or null"),
        ({"features": [[1.0], None]}, "features of different lengths or null"),
        ({"features": pa.array([[1.0], None], pa.list_(pa.float32(), 1))}, "features of different lengths or null"),
        ({"features": [[1.0, 2.0], [None, 3.0]]}, "1 NaN and 0 infinite values"),
        ({"features": pa.array([], pa.list_(pa.float32()))}, r"shape \(0, 1\)"),
        ({"features": [1.0, 2.0]}, "cannot be read as a .parquet file"),
    ],
)
def test_parquet_that_does_not_fit(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_features(table(tmp_path / "f.parquet", columns))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"identities": IDENTITIES[:6]}, r"identities of shape \(6,\) and type int64; needed are 7 values, integers"),
        ({"cameras": FEATURES[:, 0]}, "cameras of shape .* type float32; needed are 7 values, integers or text"),
        ({"paths": IDENTITIES}, "paths of shape .* type int64; needed are 7 values, text, one per image"),
    ],
)
def test_extras_that_do_not_fit(tmp_path: Path, extra: dict[str, NDArray[Any]], message: str) -> None:
    np.savez(tmp_path / "f.npz", features=FEATURES, **extra)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        read_features(tmp_path / "f.npz")


def test_integers_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\n".join(CAMERAS.tolist()) + "\n")
    (tmp_path / "c.csv").write_text("3\n-1\n5\n")
    assert read_integers(tmp_path / "c.txt", "cameras", 7).tolist() == NUMBERED
    assert read_integers(tmp_path / "c.csv", "cameras", 3).tolist() == [3, -1, 5]
    assert read_integers(npy(tmp_path / "c.npy", IDENTITIES), "identities", 7)[:5].tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(DataError, match=r"c\.csv holds cameras of shape \(3,\).*needed are 4 values"):
        read_integers(tmp_path / "c.csv", "cameras", 4)
    with pytest.raises(DataError, match=r"none of \.npy, \.txt, \.csv"):
        read_integers(npy(tmp_path / "c.npy").rename(tmp_path / "c.npz"), "cameras", 7)


def test_labels_are_written(tmp_path: Path) -> None:
    labels = np.array([3, -1, 0])
    write_labels(tmp_path / "a.csv", labels, None)
    assert (tmp_path / "a.csv").read_bytes() == b"index,label\n0,3\n1,-1\n2,0\n"
    write_labels(tmp_path / "b.csv", labels, ["x.jpg", "a, b.jpg", 'ö".jpg'])
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == 'path,label\nx.jpg,3\n"a, b.jpg",-1\n"ö"".jpg",0\n'


def test_labels_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "labels.csv"):
        with pytest.raises(RunError, match="could not be written"):
            write_labels(path, np.array([0]), None)


def test_paths_that_fit_no_safetensors_header(tmp_path: Path) -> None:
    """The format allows 100 MB; readers refuse more."""
    paths, unknown = ["x" * 10_000_000] * 11, np.full(11, -1)
    with pytest.raises(DataError, match=r"11 paths do not fit a \.safetensors file; choose \.parquet or \.npz"):
        write_features(tmp_path / "f.safetensors", np.zeros((11, 2), np.float32), paths, unknown, unknown)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    features, unknown = np.random.default_rng(0).standard_normal((1000, 40), dtype=np.float32), np.full(1000, -1)
    path = tmp_path / f"f{suffix}"
    with full_disk(1000), pytest.raises(RunError, match=rf"f{suffix} could not be written .*Free some space"):
        write_features(path, features, ["x"] * 1000, unknown, unknown)
    assert not list(tmp_path.iterdir())


def test_paths_in_folders_that_look_like_columns(tmp_path: Path) -> None:
    (tmp_path / "seed=1").mkdir()
    found = read_features(table(tmp_path / "seed=1" / "f.parquet", {"a": FEATURES[:, 0], "b": FEATURES[:, 1]}))
    np.testing.assert_array_equal(found.features, FEATURES[:, :2])


def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    """Numpy takes any 32 bits for a character; Python fails on them, and later."""
    text = np.array([2**31 - 1, 65], dtype=np.uint32).view("<U1")
    np.savez(tmp_path / "a.npz", features=np.eye(2), paths=text)
    np.save(tmp_path / "a.npy", text)
    with pytest.raises(DataError, match=r"cannot be read as a \.npz file \(.*character"):
        read_features(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"cannot be read as a \.npy file \(.*character"):
        read_integers(tmp_path / "a.npy", "cameras", 2)
