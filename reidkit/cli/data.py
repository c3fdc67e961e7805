"""`reidkit data`."""

from pathlib import Path
from typing import Any

import click

from reidkit.cli.options import data_root_option

__all__ = ["data"]


@click.group()
def data() -> None:
    """Data sets: what is supported and found, layout and counts, generated sets."""


@data.command("list")
@data_root_option
def list_all(data_root: Path | None) -> None:
    """The data sets known by name, and which of them are at hand."""
    from reidkit.cli.console import show_table
    from reidkit.cli.tables import catalog_table

    show_table(catalog_table(data_root))


@data.command(epilog="Examples: reidkit data check market   ·   reidkit data check path/to/folder")
@click.argument("name")
@data_root_option
@click.option("--read", is_flag=True, help="Decode every image too, and name those that cannot be read.")
@click.pass_context
def check(ctx: click.Context, name: str, data_root: Path | None, read: bool) -> None:
    """Find a data set and count it; the exit code is 1 if something is not as published or not readable."""
    from reidkit.cli.console import show_table
    from reidkit.cli.tables import split_table
    from reidkit.datasets import check_dataset, load_dataset

    dataset = load_dataset(name, data_root)
    findings = check_dataset(dataset, read=read)
    click.echo(f"{dataset.name}: {dataset.version}, at {dataset.root}")
    show_table(split_table(dataset))
    for finding in findings:
        click.echo(f"warning: {finding}")
    ctx.exit(1 if findings else 0)


@data.command(
    epilog="""\b
Examples:
  reidkit data make data/people                             the default set
  reidkit data make data/winter --style winter --seed 3     another domain
"""
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--train-identities", type=int, help="Identities of the training images.")
@click.option("--test-identities", type=int, help="Identities of query and gallery.")
@click.option("--cameras", type=int)
@click.option("--images-per-camera", type=int, help="Images of an identity in each camera that sees it.")
@click.option("--distractors", type=int, help="Gallery images that match no query.")
@click.option("--height", type=int, help="Pixels.")
@click.option("--width", type=int, help="Pixels.")
@click.option("--seed", type=int)
@click.option("--style", type=click.Choice(("summer", "winter")))
def make(folder: Path, **options: Any) -> None:
    """Generate pedestrians in Market-1501 layout."""
    from reidkit.cli.console import Display
    from reidkit.datasets import make_synthetic, synthetic_config

    config = synthetic_config({name: value for name, value in options.items() if value is not None})
    with Display() as display:
        display.begin("generate", 1)
        make_synthetic(folder, config, progress=display.advance)
    click.echo(f"{folder} is ready: reidkit usl --target {folder}")
