"""`reidkit extract`."""

from pathlib import Path
from typing import Any

import click

from reidkit.cli.options import FILE, batch_size_option, data_root_option, model_options

__all__ = ["extract"]


@click.command(
    epilog="""\b
Examples:
  reidkit extract runs/usl-market photos/ -o features.npz
  reidkit extract model.pth "day1/**/*.jpg" list.txt -o features.parquet
  reidkit extract runs/usl-market msmt17 --split gallery -o gallery.safetensors
  reidkit cluster features.npz -o labels.csv                  clusters of them

\b
A file holds `features` (N, D) float32, L2-normalised; `paths`, absolute; `identities` and `cameras`, -1 is unknown.
In .safetensors, which holds no text, paths are a JSON list in the metadata. Unreadable images are named and left out.
"""
)
@click.argument("checkpoint", type=FILE)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "--output", type=FILE, required=True, help="File: .npz, .parquet or .safetensors.")
@click.option(
    "--split",
    "splits",
    type=click.Choice(("train", "query", "gallery")),
    multiple=True,
    help="Split of a data set; may be repeated.  [default: all]",
)
@data_root_option
@batch_size_option
@click.option("--strict", is_flag=True, help="Stop at the first unreadable image.")
@model_options
def extract(
    checkpoint: Path,
    paths: tuple[str, ...],
    output: Path,
    splits: tuple[str, ...],
    data_root: Path | None,
    batch_size: int | None,
    strict: bool,
    **model: Any,
) -> None:
    """Features of any images by CHECKPOINT, a run folder or a file of weights.

    A PATH is an image, a folder (with all below it), a glob, a list (.txt, a path per line; .csv, a column `path`), or
    a data set, a name or a folder. The same command, typed again after an interruption, goes on where it stopped.
    """
    from reidkit.cli.console import Display
    from reidkit.inference import SPLITS, extract_to_file, find_images, load
    from reidkit.storage import check_output

    check_output(output)
    with Display() as display:
        embedder = load(checkpoint, **model)
        display.begin("find images", 1)
        images = find_images(paths, splits=splits or SPLITS, data_root=data_root, progress=display.advance)
        done = extract_to_file(embedder, images, output, batch_size=batch_size, strict=strict, progress=display)
    if done.resumed:
        click.echo(f"resumed: {done.resumed:,} of {len(images):,} images were done already")
    warn_of_unreadable(done.problems, len(images))
    click.echo(f"{output}: {done.rows:,} images, features of {embedder.feature_dim:,} numbers")


def warn_of_unreadable(problems: tuple[str, ...], total: int) -> None:
    """Name the first few of the images that were left out, and count them all."""
    from reidkit.datasets import unreadable_warnings

    for warning in unreadable_warnings(problems, f"{total:,} images"):
        click.echo(f"warning: {warning}", err=True)
