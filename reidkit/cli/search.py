"""`reidkit search`."""

from pathlib import Path
from typing import Any

import click

from reidkit.cli.extract import warn_of_unreadable
from reidkit.cli.options import FILE, batch_size_option, data_root_option, model_options

__all__ = ["search"]


@click.command(
    epilog="""\b
Examples:
  reidkit search runs/usl-market --query person.jpg --gallery photos/ --html found.html
  reidkit search runs/usl-market --query *.jpg --gallery photos/ --rerank --json found.json
  reidkit search runs/usl-market --query person.jpg --gallery photos/ --index photos.index --calibrate market
  reidkit search runs/usl-market --query person.jpg --gallery photos.index

\b
The probability that --calibrate adds is that of a pair of images, where same and different are equally likely
beforehand; it does not depend on the size of the gallery, in which most images are of someone else.
"""
)
@click.argument("checkpoint", type=FILE)
@click.argument("more", nargs=-1, metavar="[IMAGE]...")
@click.option(
    "--query",
    "queries",
    multiple=True,
    required=True,
    metavar="IMAGE...",
    help="Image to look for, or a folder, glob or list of them; may be repeated.",
)
@click.option(
    "--gallery",
    type=FILE,
    required=True,
    help="Folder of images to look in, with all below it; or a saved index, searched as it is.",
)
@click.option(
    "--index",
    "index_folder",
    type=FILE,
    help="Folder of the gallery's features, made, or brought up to date.  [default: in the cache]",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Matches of each query.")
@click.option("--rerank", is_flag=True, help="Rank by k-reciprocal neighbours (k1 20, k2 6, lambda 0.3).")
@click.option(
    "--calibrate",
    "calibrate_on",
    metavar="DATASET",
    help="Labelled images that the probability of a match is fitted to; kept.",
)
@data_root_option
@click.option("--html", "html_file", type=FILE, help="HTML file for a page of pictures.")
@click.option("--json", "json_file", type=FILE, help="JSON file for the matches.")
@batch_size_option
@model_options
def search(  # noqa: PLR0913
    checkpoint: Path,
    more: tuple[str, ...],
    queries: tuple[str, ...],
    gallery: Path,
    index_folder: Path | None,
    top: int,
    rerank: bool,
    calibrate_on: str | None,
    data_root: Path | None,
    html_file: Path | None,
    json_file: Path | None,
    batch_size: int | None,
    **model: Any,
) -> None:
    """The gallery images that are most like a query, by CHECKPOINT, a run folder or a file of weights.

    Each IMAGE is a query too. A gallery folder is embedded once: afterwards only what is new or changed in it.
    """
    from reidkit.cli.console import Display, show_table
    from reidkit.cli.console_tables import matches_table
    from reidkit.inference import (
        calibrate,
        find_images,
        load,
        open_gallery,
        read_calibration,
        search_gallery,
        write_calibration,
        write_matches,
        write_search_page,
    )
    from reidkit.storage import check_writable

    for path in filter(None, (html_file, json_file)):
        check_writable(path)
    with Display() as display:
        # Features of queries and gallery
        embedder = load(checkpoint, **model)
        query_paths = find_images([*queries, *more], data_root=data_root).paths
        features = embedder.embed(query_paths, batch_size=batch_size)
        index, update = open_gallery(gallery, embedder, index_folder, batch_size=batch_size, progress=display)
        if update is not None:
            warn_of_unreadable(update.problems, len(index) + len(update.problems))
            changes = f"{update.added:,} embedded now, {update.dropped:,} dropped"
            display.say(f"index {index.folder}: {len(index):,} images, {changes}")

        # Calibration, kept with the index
        file = index.calibration_file
        calibration = read_calibration(file) if calibrate_on is None and file.exists() else None
        if calibrate_on is not None:
            calibration = calibrate(embedder, calibrate_on, data_root=data_root, progress=display)
            write_calibration(file, calibration)
            pairs = f"{calibration.same:,} pairs of one identity and {calibration.different:,} of two"
            display.say(f"calibrated on {pairs}")

        # Matches
        display.begin("search", 1)
        found = search_gallery(index, features, query_paths, top=top, rerank=rerank, calibration=calibration)
    show_table(matches_table(query_paths, found, index.root))
    if json_file is not None:
        write_matches(json_file, query_paths, found)
    if html_file is not None:
        write_search_page(html_file, query_paths, found, gallery=gallery, checkpoint=embedder.checkpoint)
        click.echo(f"page {html_file}")
