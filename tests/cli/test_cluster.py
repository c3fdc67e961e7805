"""`reidkit cluster` as a user types it."""

import csv
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from reidkit.cli import cli
from reidkit.cli.cluster import cluster
from reidkit.clustering import ClusteringConfig, JaccardDBSCAN, JaccardHDBSCAN, dbscan, jaccard_graph

Features: TypeAlias = NDArray[np.float32]

IDENTITIES = np.repeat(np.arange(20), 12)
SETTINGS = ("--k1", "12", "--k2", "4")


def reidkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["cluster", *map(str, arguments)])


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Features:
    """Features around 20 centres, in a folder of their own as f.npy and, with all that is known, f.npz."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    points = random.standard_normal((20, 64))[IDENTITIES] + random.standard_normal((240, 64))
    values = points.astype(np.float32)
    np.save("f.npy", values)
    paths = np.array([f"{number}.jpg" for number in range(240)])
    np.savez("f.npz", features=values, identities=IDENTITIES, cameras=np.arange(240) % 3, paths=paths)
    return values


def read_labels(name: str) -> tuple[list[str], list[str], list[int]]:
    """Header, first column and labels."""
    with Path(name).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, [row[0] for row in rows], [int(row[1]) for row in rows]


def test_labels_are_those_of_the_estimator(features: Features) -> None:
    done = reidkit("f.npy", "-o", "labels.csv", "--eps", "0.5", "--min-samples", "3", "--threads", "2", *SETTINGS)
    assert done.exit_code == 0, done.output
    expected = JaccardDBSCAN(0.5, min_samples=3, k1=12, k2=4).fit_predict(features)
    header, names, labels = read_labels("labels.csv")
    assert header == ["index", "label"]
    assert names == [str(number) for number in range(240)]
    assert labels == expected.tolist()
    words = ["f.npy: 240 images, features of 64 numbers", "neighbours", "graph", "labels", "peak memory", "silhouette"]
    assert [word for word in [*words, "DBSCAN at eps 0.5", "labels labels.csv"] if word not in done.output] == []
    assert "ARI" not in done.output
    assert not Path("eps.html").exists()


def test_defaults_are_those_of_a_run() -> None:
    settings = ClusteringConfig().model_dump()
    defaults = cluster.make_context("cluster", ["f.npy"]).params
    shared = {name: defaults[name] for name in settings if defaults.get(name) is not None}
    assert len(shared) >= 5
    assert shared == {name: settings[name] for name in shared}


def test_what_is_known_is_shown_and_paths_are_written(features: Features) -> None:
    done = reidkit("f.npz", "-o", "labels.csv", *SETTINGS)
    assert done.exit_code == 0, done.output
    assert "DBSCAN at eps 0.6" in done.output
    for word in ("cameras per cluster", "ARI", "NMI", "purity", "pairwise precision", "pairwise recall"):
        assert word in done.output
    header, names, _ = read_labels("labels.csv")
    assert header == ["path", "label"]
    assert names[:2] == ["0.jpg", "1.jpg"]


def test_identities_and_cameras_from_files(features: Features) -> None:
    Path("cameras.txt").write_text("left\nright\n" * 120)
    np.save("truth.npy", IDENTITIES)
    done = reidkit("f.npy", "-o", "l.csv", "--cameras", "cameras.txt", "--identities", "truth.npy", *SETTINGS)
    assert done.exit_code == 0, done.output
    assert "2.00, entropy 0.99" in done.output
    assert "images of known identity" in done.output


def test_camera_aware(features: Features) -> None:
    done = reidkit("f.npz", "-o", "labels.csv", "--eps", "0.5", "--camera-aware")
    assert done.exit_code == 0, done.output
    graph = jaccard_graph(features, cameras=np.arange(240) % 3, max_distance=0.5)
    assert read_labels("labels.csv")[2] == dbscan(graph, eps=0.5, min_samples=4)[0].tolist()


def test_suggestion_alone(features: Features) -> None:
    done = reidkit("f.npy", "--suggest", "--plot", "why.html", *SETTINGS)
    assert done.exit_code == 0, done.output
    assert "suggested: --eps 0.65" in done.output
    assert "0.85" in done.output
    assert "<h1>Suggested eps 0.65: " in Path("why.html").read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["f.npy", "f.npz", "why.html"]


def test_labels_at_the_suggested_eps_or_at_the_one_that_was_typed(features: Features) -> None:
    for eps, typed in ((0.65, ()), (0.3, ("--eps", "0.3"))):
        done = reidkit("f.npy", "--suggest", "-o", "labels.csv", *typed, *SETTINGS)
        assert done.exit_code == 0, done.output
        assert Path("eps.html").exists()
        assert read_labels("labels.csv")[2] == JaccardDBSCAN(eps, k1=12, k2=4).fit_predict(features).tolist()


def test_without_a_suggestion_the_typed_eps_still_clusters(features: Features) -> None:
    impossible = ("f.npy", "--suggest", "-o", "labels.csv", "--min-samples", "99", *SETTINGS)
    refused = reidkit(*impossible)
    assert refused.exit_code == 2
    assert "no eps finds two clusters with min_samples=99" in refused.output
    assert "lower --min-samples" in refused.output
    done = reidkit(*impossible, "--eps", "0.5")
    assert done.exit_code == 0, done.output
    assert read_labels("labels.csv")[2] == [-1] * 240


def test_hdbscan(features: Features) -> None:
    done = reidkit("f.npz", "-o", "labels.csv", "--method", "hdbscan", "--min-cluster-size", "5", *SETTINGS)
    assert done.exit_code == 0, done.output
    expected = JaccardHDBSCAN(min_cluster_size=5, min_samples=4, k1=12, k2=4).fit_predict(features)
    assert read_labels("labels.csv")[2] == expected.tolist()
    assert len(set(expected)) > 10
    assert "HDBSCAN" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["f.npy"], "there is nothing to do: name a file for the labels with -o, or ask for --suggest"),
        (["f.npy", "--suggest", "--method", "hdbscan"], "HDBSCAN has no eps"),
        (["f.npy", "-o", "l.csv", "--eps", "0.5", "--method", "hdbscan"], "HDBSCAN has no eps"),
        (["f.npy", "-o", "l.csv", "--camera-aware"], "--camera-aware needs cameras, and f.npy has none"),
        (["f.npy", "-o", "l.csv", "--min-cluster-size", "1"], "min_cluster_size=1 must be an integer of at least 2"),
        (["absent.npy", "-o", "l.csv"], "absent.npy does not exist"),
        (["f.npy", "-o", "absent/l.csv"], "absent/l.csv cannot be written"),
        (["f.npy", "--suggest", "--plot", "absent/eps.html"], "absent/eps.html cannot be written"),
        (["f.npy", "--suggest", "--plot", "eps.png"], "an HTML page; name a file such as eps.html"),
        (["f.npy", "-o", "l.csv", "--eps", "1"], "eps=1.0 must lie in (0, 1)"),
        (["f.npy", "-o", "l.csv", "--eps", "0"], "eps=0.0 must lie in (0, 1)"),
        (["f.npy", "-o", "l.csv", "--k1", "0"], "k1=0 must be an integer of at least 1"),
        (["f.npy", "-o", "l.csv", "--k2", "31"], "k2=31 must not exceed k1=30"),
        (["f.npy", "-o", "l.csv", "--min-samples", "0"], "min_samples=0 must be an integer of at least 1"),
        (["f.npy", "-o", "l.csv", "--threads", "0"], "threads=0 must be an integer of at least 1"),
        (["f.npy", "-o", "l.csv", "--device", "cuda:77"], "device='cuda:77' does not exist"),
        (["f.npy", "-o", "l.csv", "--cameras", "f.npy"], "f.npy holds cameras of shape (240, 64)"),
        (["nan.npy", "-o", "l.csv"], "nan.npy holds 1 NaN and 1 infinite values, in 1 of 5 rows, the first in row 2"),
        (["flat.npy", "-o", "l.csv"], "flat.npy holds features of shape (9,)"),
        (["damaged.npz", "-o", "l.csv"], "damaged.npz cannot be read"),
    ],
)
def test_bad_input_is_one_clear_message(features: Features, arguments: list[str], message: str) -> None:
    broken = np.zeros((5, 2))
    broken[2] = np.nan, np.inf
    np.save("nan.npy", broken)
    np.save("flat.npy", np.zeros(9))
    Path("damaged.npz").write_bytes(b"garbage")
    done = reidkit(*arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not Path("l.csv").exists()


def test_help_has_examples() -> None:
    done = reidkit("--help")
    assert done.exit_code == 0
    assert "reidkit cluster features.npy --suggest" in done.output
    assert "[default: 30]" in done.output
