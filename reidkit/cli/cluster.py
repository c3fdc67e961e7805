"""`reidkit cluster`."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from reidkit.cli.options import device_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table
    from scipy.sparse import csr_array

    from reidkit.clustering import EpsSuggestion, SizeBin
    from reidkit.storage import FeatureFile

__all__ = ["cluster"]

_BAR = 30


class _Options(NamedTuple):
    """What was typed."""

    eps: float | None
    min_samples: int
    min_cluster_size: int
    k1: int
    k2: int
    method: str
    camera_aware: bool
    backend: str
    device: str
    threads: int | None


class _Found(NamedTuple):
    """What came out."""

    labels: "NDArray[np.int64]"
    graph: "csr_array[np.float32, tuple[int, int]]"
    reach: float
    """Largest distance in the graph."""
    how: str


@click.command(
    epilog="""\b
Examples:
  reidkit cluster features.npy --suggest                      which eps? a table and a plot
  reidkit cluster features.npy -o labels.csv --eps 0.55
  reidkit cluster features.parquet -o labels.csv --suggest    cluster with the suggested eps
  reidkit cluster features.npz -o labels.csv --method hdbscan --min-cluster-size 5

\b
Files: .npy, (N, D); .npz and .safetensors with an array `features` and, if known, `identities`, `cameras`, `paths`;
.parquet with columns of these names.
"""
)
@click.argument("features", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV file of labels; -1 is noise.")
@click.option("--method", type=click.Choice(("dbscan", "hdbscan")), default="dbscan", show_default=True)
@click.option(
    "--eps",
    type=float,
    help="Largest Jaccard distance of neighbours; higher merges more.  [default: 0.6, or as suggested]",
)
@click.option(
    "--min-samples",
    default=4,
    show_default=True,
    help="Images within eps that make a core point (hdbscan: nearest others).",
)
@click.option("--min-cluster-size", default=4, show_default=True, help="Images that make a cluster; hdbscan only.")
@click.option("--k1", default=30, show_default=True, help="Neighbours among which reciprocal ones are sought.")
@click.option("--k2", default=6, show_default=True, help="Neighbours of the query expansion; 1 turns it off.")
@click.option("--suggest", is_flag=True, help="Try many eps and suggest one; --output is then optional.")
@click.option(
    "--plot", type=click.Path(path_type=Path), default=Path("eps.html"), show_default=True, help="Page of --suggest."
)
@click.option("--cameras", type=click.Path(path_type=Path), help="Cameras, one per image: .npy, .txt or .csv.")
@click.option("--camera-aware", is_flag=True, help="CA-Jaccard: neighbours by camera in place of --k1 and --k2.")
@click.option("--identities", type=click.Path(path_type=Path), help="Identities to compare with, in the same formats.")
@click.option(
    "--backend",
    type=click.Choice(("auto", "torch", "faiss", "approximate")),
    default="auto",
    show_default=True,
    help="Search of the neighbours; all but approximate find the same.",
)
@click.option("--threads", type=int, help="Threads; the result is the same.  [default: all cores]")
@device_option
def cluster(
    features: Path,
    output: Path | None,
    suggest: bool,
    plot: Path,
    cameras: Path | None,
    identities: Path | None,
    device: str | None,
    **options: Any,
) -> None:
    """Pseudo-labels of any embeddings: k-reciprocal Jaccard distance, then DBSCAN or HDBSCAN.

    FEATURES is a .npy, .npz, .parquet or .safetensors file, or the folder of a finished run.
    """
    from reidkit.loop import resolve_device
    from reidkit.pages import check_page
    from reidkit.storage import check_writable, write_labels

    typed = _Options(**options, device=resolve_device(device or "auto"))
    _check(typed, output, suggest)
    if output is not None:
        check_writable(output)
    if suggest:
        check_page(plot)
    given = _read(features, cameras, identities)
    if typed.camera_aware and given.cameras is None:
        raise click.UsageError(
            f"--camera-aware needs cameras, and {features} has none: name a file of them by --cameras"
        )
    click.echo(f"{features}: {given.features.shape[0]:,} images, features of {given.features.shape[1]:,} numbers")
    before = _peak_memory()
    found = _hdbscan(given, typed) if typed.method == "hdbscan" else _dbscan(given, typed, plot if suggest else None)
    click.echo(f"peak memory {_peak_memory()}, of which {before} before the first stage")
    if output is not None:
        write_labels(output, found.labels, given.paths)
        _show_quality(found, given, typed.threads)
        click.echo(f"labels {output}")


def _check(typed: _Options, output: Path | None, suggest: bool) -> None:
    """Refuse what cannot work before any file is read."""
    from reidkit.clustering import check_count, check_distance, check_neighbourhood

    if output is None and not suggest:
        raise click.UsageError("there is nothing to do: name a file for the labels with -o, or ask for --suggest")
    if typed.method == "hdbscan" and (suggest or typed.eps is not None):
        raise click.UsageError("HDBSCAN has no eps: leave out --eps and --suggest, or take --method dbscan")
    if typed.eps is not None:
        check_distance("eps", typed.eps)
    check_neighbourhood(typed.k1, typed.k2)
    check_count("min_samples", typed.min_samples)
    check_count("min_cluster_size", typed.min_cluster_size, least=2)
    if typed.threads is not None:
        check_count("threads", typed.threads)


def _read(features: Path, cameras: Path | None, identities: Path | None) -> "FeatureFile":
    from reidkit.storage import read_features, read_integers

    given = read_features(features)
    if cameras is not None:
        given = given._replace(cameras=read_integers(cameras, "cameras", len(given.features)))
    if identities is not None:
        given = given._replace(identities=read_integers(identities, "identities", len(given.features)))
    return given


def _dbscan(given: "FeatureFile", typed: _Options, plot: Path | None) -> _Found:
    """DBSCAN at the eps that was typed, else suggested, else usual."""
    from reidkit.clustering import EPS_TRIALS, ClusteringConfig, dbscan

    eps = ClusteringConfig().eps if typed.eps is None else typed.eps
    reach = eps if plot is None else max(EPS_TRIALS[-1], eps)
    graph = _graph(given, typed, reach)
    if plot is not None:
        eps = _suggest(graph, typed, plot)
    with _stage("labels"):
        labels, _ = dbscan(graph, eps=eps, min_samples=typed.min_samples)
    return _Found(labels, graph, reach, f"DBSCAN at eps {eps:g}")


def _hdbscan(given: "FeatureFile", typed: _Options) -> _Found:
    from reidkit.clustering import JaccardHDBSCAN, hdbscan

    reach = JaccardHDBSCAN().max_distance
    graph = _graph(given, typed, reach)
    with _stage("labels"):
        labels, _ = hdbscan(
            graph, min_cluster_size=typed.min_cluster_size, min_samples=typed.min_samples, threads=typed.threads
        )
    return _Found(labels, graph, reach, "HDBSCAN")


def _graph(given: "FeatureFile", typed: _Options, reach: float) -> "csr_array[np.float32, tuple[int, int]]":
    """Distances up to `reach`; those by camera search the neighbours of both kinds in one stage."""
    from reidkit.clustering import jaccard_graph, nearest_neighbours

    make = partial(jaccard_graph, max_distance=reach, backend=typed.backend, device=typed.device, threads=typed.threads)
    if typed.camera_aware:
        with _stage("graph"):
            return make(given.features, cameras=given.cameras)
    with _stage("neighbours"):
        neighbours = nearest_neighbours(
            given.features, typed.k1, backend=typed.backend, device=typed.device, threads=typed.threads
        )
    with _stage("graph"):
        return make(given.features, k1=typed.k1, k2=typed.k2, neighbours=neighbours)


def _suggest(graph: "csr_array[np.float32, tuple[int, int]]", typed: _Options, plot: Path) -> float:
    """Show which eps to take and why; return the one that was typed, otherwise the suggested one."""
    from reidkit.cli.console import show_table
    from reidkit.clustering import suggest_eps
    from reidkit.errors import ClusteringError
    from reidkit.reporting import plot_suggestion

    with _stage("suggestion"):
        suggestion = suggest_eps(graph, min_samples=typed.min_samples, threads=typed.threads)
    plot_suggestion(suggestion, plot)
    show_table(_trials_table(suggestion))
    click.echo(f"plot {plot}")
    best = suggestion.best
    if best is not None:
        click.echo(f"suggested: --eps {best.eps:g}")
    if typed.eps is not None:
        return typed.eps
    if best is None:
        raise ClusteringError(
            f"no eps finds two clusters with min_samples={typed.min_samples}, k1={typed.k1} and k2={typed.k2}; "
            f"lower --min-samples, change --k1, or see in {plot} how near the images are to each other"
        )
    return best.eps


def _show_quality(found: _Found, given: "FeatureFile", threads: int | None) -> None:
    """Tables of what was found and of the sizes."""
    import numpy as np
    from rich.table import Table

    from reidkit.cli.console import show_table
    from reidkit.clustering import camera_mix, cluster_sizes, identity_agreement, silhouette, size_histogram

    counts = cluster_sizes(found.labels)
    rows = {
        "clusters": f"{len(counts.sizes):,}",
        "noise": f"{counts.noise:,} of {counts.images:,} images ({counts.noise / counts.images:.1%})",
    }
    if len(counts.sizes):
        rows["images per cluster"] = f"median {np.median(counts.sizes):g}, largest {counts.sizes.max():,}"
        score = silhouette(found.graph, found.labels, threads=threads)
        rows[f"silhouette, on pairs up to {found.reach:g}"] = _figure(score)
    if given.cameras is not None:
        mix = camera_mix(found.labels, given.cameras)
        rows["cameras per cluster"] = f"{_figure(mix.cameras_per_cluster, 2)}, entropy {_figure(mix.entropy)} of 1"
    if given.identities is not None:
        agreement = identity_agreement(found.labels, given.identities)
        rows["images of known identity"] = f"{agreement.images:,}"
        rows["ARI"] = _figure(agreement.ari)
        rows["NMI"] = _figure(agreement.nmi)
        rows["purity"] = _figure(agreement.purity)
        rows["pairwise precision"] = _figure(agreement.precision)
        rows["pairwise recall"] = _figure(agreement.recall)
    table = Table("what", "found", title=found.how)
    for row in rows.items():
        table.add_row(*row)
    show_table(table)
    if len(counts.sizes):
        show_table(_sizes_table(size_histogram(counts.sizes)))


def _trials_table(suggestion: "EpsSuggestion") -> "Table":
    from rich.table import Table

    table = Table(caption="score: mean silhouette over all images, noise counting as 0; the highest is suggested")
    for column in ("eps", "clusters", "noise", "largest", "core points", "score", ""):
        table.add_column(column, justify="right" if column else "left")
    for trial in suggestion.trials:
        best = trial == suggestion.best
        core = suggestion.core_share(trial.eps)
        figures = (f"{trial.clusters:,}", f"{trial.noise:.1%}", f"{trial.largest:,}", f"{core:.1%}")
        row = (f"{trial.eps:.2f}", *figures, _figure(trial.score), "suggested" if best else "")
        table.add_row(*row, style="bold" if best else None)
    return table


def _sizes_table(bins: "list[SizeBin]") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("images", justify="right")
    table.add_column("clusters", justify="right")
    table.add_column()
    most = max(size.clusters for size in bins)
    for smallest, largest, clusters in bins:
        images = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
        table.add_row(images, f"{clusters:,}", "█" * -(-_BAR * clusters // most))
    return table


def _figure(value: float, digits: int = 3) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"


@contextmanager
def _stage(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    click.echo(f"{name:<12}{time.perf_counter() - start:8.2f} s")


def _peak_memory() -> str:
    """The most memory that this process has held."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{peak / 2**30:,.1f} GiB" if peak >= 10 * 2**30 else f"{peak / 2**20:,.0f} MiB"
