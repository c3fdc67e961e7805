"""`reidkit cluster`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli.options import FILE, device_option

if TYPE_CHECKING:
    from reidkit.clustering import ClusteringConfig, FeatureGraph

__all__ = ["cluster"]


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
@click.argument("features", type=FILE)
@click.option("-o", "--output", type=FILE, help="CSV file of labels; -1 is noise.")
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
@click.option("--plot", type=FILE, default=Path("eps.html"), show_default=True, help="Page of --suggest.")
@click.option("--cameras", type=FILE, help="Cameras, one per image: .npy, .txt or .csv.")
@click.option("--camera-aware", is_flag=True, help="CA-Jaccard: neighbours by camera in place of --k1 and --k2.")
@click.option("--identities", type=FILE, help="Identities to compare with, in the same formats.")
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
    camera_aware: bool,
    identities: Path | None,
    device: str | None,
    **settings: Any,
) -> None:
    """Pseudo-labels of any embeddings: k-reciprocal Jaccard distance, then DBSCAN or HDBSCAN.

    FEATURES is a .npy, .npz, .parquet or .safetensors file, or the folder of a finished run.
    """
    from reidkit.cli.console import show_table
    from reidkit.cli.console_tables import quality_table, sizes_table
    from reidkit.clustering import ClusteringConfig, build_graph, cluster_graph, clustering_quality
    from reidkit.loop import resolve_device
    from reidkit.pages import check_page
    from reidkit.storage import check_writable, read_features, read_integers, write_labels

    # Checks before any file is read
    _check(settings, output, suggest)
    device = resolve_device(device or "auto")
    typed_eps = settings["eps"]
    config = ClusteringConfig(device=device, **{name: value for name, value in settings.items() if value is not None})
    if output is not None:
        check_writable(output)
    if suggest:
        check_page(plot)

    # Features
    given = read_features(features)
    if cameras is not None:
        given = given._replace(cameras=read_integers(cameras, "cameras", len(given.features)))
    if identities is not None:
        given = given._replace(identities=read_integers(identities, "identities", len(given.features)))
    if camera_aware and given.cameras is None:
        raise click.UsageError(
            f"--camera-aware needs cameras, and {features} has none: name a file of them by --cameras"
        )
    click.echo(f"{features}: {given.features.shape[0]:,} images, features of {given.features.shape[1]:,} numbers")

    # Graph and labels
    before = _peak_memory()
    known = given.cameras if camera_aware else None
    graph = build_graph(given.features, config, suggest=suggest, cameras=known, stage=_stage)
    if suggest:
        best = _suggest(graph, config, plot, needed=typed_eps is None)
        config = config.model_copy(update={"eps": best if typed_eps is None else typed_eps})
    with _stage("labels"):
        labels = cluster_graph(graph, config)
    click.echo(f"peak memory {_peak_memory()}, of which {before} before the first stage")

    # Labels on the disk and their quality on the screen
    if output is not None:
        write_labels(output, labels, given.paths)
        quality = clustering_quality(
            labels, graph=graph.distances, cameras=given.cameras, identities=given.identities, threads=config.threads
        )
        title = "HDBSCAN" if config.method == "hdbscan" else f"DBSCAN at eps {config.eps:g}"
        show_table(quality_table(quality, graph.max_distance, title))
        if len(quality.sizes.sizes):
            show_table(sizes_table(quality.sizes.sizes))
        click.echo(f"labels {output}")


def _check(settings: dict[str, Any], output: Path | None, suggest: bool) -> None:
    """Refuse settings that cannot work."""
    from reidkit.clustering import check_count, check_distance, check_neighbourhood

    if output is None and not suggest:
        raise click.UsageError("there is nothing to do: name a file for the labels with -o, or ask for --suggest")
    eps = settings["eps"]
    if settings["method"] == "hdbscan" and (suggest or eps is not None):
        raise click.UsageError("HDBSCAN has no eps: leave out --eps and --suggest, or take --method dbscan")
    if eps is not None:
        check_distance("eps", eps)
    check_neighbourhood(settings["k1"], settings["k2"])
    check_count("min_samples", settings["min_samples"])
    check_count("min_cluster_size", settings["min_cluster_size"], least=2)
    if settings["threads"] is not None:
        check_count("threads", settings["threads"])


def _suggest(graph: "FeatureGraph", config: "ClusteringConfig", plot: Path, *, needed: bool) -> float | None:
    """Show and plot which eps to take and why; return it.

    Raises:
        ClusteringError: An eps is needed, and none finds two clusters.
    """
    from reidkit.cli.console import show_table
    from reidkit.cli.console_tables import trials_table
    from reidkit.clustering import suggest_eps
    from reidkit.errors import ClusteringError
    from reidkit.reporting import plot_suggestion

    with _stage("suggestion"):
        suggestion = suggest_eps(graph.distances, min_samples=config.min_samples, threads=config.threads)
    plot_suggestion(suggestion, plot)
    show_table(trials_table(suggestion))
    click.echo(f"plot {plot}")
    if suggestion.best is not None:
        click.echo(f"suggested: --eps {suggestion.best.eps:g}")
    elif needed:
        raise ClusteringError(
            f"no eps finds two clusters with min_samples={config.min_samples}, k1={config.k1} and k2={config.k2}; "
            f"lower --min-samples, change --k1, or see in {plot} how near the images are to each other"
        )
    return suggestion.best and suggestion.best.eps


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
