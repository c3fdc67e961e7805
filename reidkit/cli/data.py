"""`reidkit data`."""

import json
from pathlib import Path
from typing import Any

import click

from reidkit.cli.options import FILE, data_root_option
from reidkit.errors import DataError

__all__ = ["data"]


@click.group()
def data() -> None:
    """Data sets: those supported and found, layout and counts, generated sets."""


@data.command("list")
@data_root_option
def list_all(data_root: Path | None) -> None:
    """The data sets known by name, and which of them are at hand."""
    from reidkit.cli.console import show_table
    from reidkit.cli.console_tables import catalog_table, missing_sets

    show_table(catalog_table(data_root))
    for line in missing_sets(data_root):
        click.echo(line)
    click.echo(
        "Any folder in Market-1501 layout, folder of images, table (.csv, .parquet) or LMDB is taken by its path."
    )


@data.command(
    epilog="""\b
Examples:
  reidkit data check market                                 counts, sizes and copies
  reidkit data check path/to/folder --read                  decode every image too
  reidkit data check veri --thumbnails veri.png --json veri.json
"""
)
@click.argument("name")
@data_root_option
@click.option("--read", is_flag=True, help="Decode every image too, and name those that cannot be read.")
@click.option("--quick", is_flag=True, help="Count names only: no sizes, no copies, no damaged files.")
@click.option("--thumbnails", type=FILE, help="Write a contact sheet: a .png or .jpg picture.")
@click.option("--json", "record", type=FILE, help="Write the facts to a file, for programs.")
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    data_root: Path | None,
    read: bool,
    quick: bool,
    thumbnails: Path | None,
    record: Path | None,
) -> None:
    """Find a data set, count it and look into its files.

    The exit code is 1 if something is wrong: counts that are not the published ones, a split that is missing, queries
    without a match, people or images of the test that are trained on, files that cannot be read.
    """
    from reidkit.cli.console import Display, show_table
    from reidkit.cli.console_tables import camera_table, split_table
    from reidkit.datasets import check_dataset, load_dataset, write_contact_sheet

    with Display() as display:
        display.begin("check", 1)
        dataset = load_dataset(name, data_root, progress=display.advance)
        facts = check_dataset(dataset, files=not quick, read=read, progress=display.advance)
    show_table(split_table(facts))
    show_table(camera_table(facts))
    for kind, size in (("smallest", facts.smallest), ("largest", facts.largest)):
        if size is not None:
            click.echo(f"{kind} image: {size.width:,} x {size.height:,} pixels, {size.path}")
    for note in facts.notes:
        click.echo(f"note: {note}")
    for problem in facts.problems:
        click.echo(f"warning: {problem}")
    if thumbnails is not None:
        write_contact_sheet(dataset, thumbnails)
        click.echo(f"contact sheet: {thumbnails}")
    if record is not None:
        try:
            record.write_text(json.dumps(facts.as_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{record} cannot be written ({error.strerror}); name another file for --json") from None
    ctx.exit(1 if facts.problems else 0)


@data.command(
    epilog="""\b
Examples:
  reidkit data make data/people                             the default set
  reidkit data make data/winter --style winter --seed 3     another domain
"""
)
@click.argument("folder", type=FILE)
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
    from reidkit.datasets import synthetic_config
    from reidkit.synthetic import make_synthetic

    config = synthetic_config({name: value for name, value in options.items() if value is not None})
    with Display() as display:
        display.begin("generate", 1)
        make_synthetic(folder, config, progress=display.advance)
    click.echo(f"{folder} is ready: reidkit usl --target {folder}")


@data.command(
    epilog="""\b
Examples:
  reidkit data cache                    list the stores
  reidkit data cache --older-than 30    remove those not used for 30 days
  reidkit data cache --keep 20          ... the least recently used, until 20 GiB are left
  reidkit data cache --evict 3f2a       ... the store whose key begins so
"""
)
@click.option("--clear", is_flag=True, help="Remove all stores.")
@click.option("--evict", "keys", metavar="KEY", multiple=True, help="Remove this store; repeatable.")
@click.option(
    "--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Remove stores not used for this time."
)
@click.option("--keep", metavar="GIB", type=click.FloatRange(min=0), help="Remove the least recently used beyond this.")
def cache(clear: bool, keys: tuple[str, ...], older_than: float | None, keep: float | None) -> None:
    """List the stores of decoded images, or remove some; those in use stay.

    Of several conditions all must hold. Removed images are decoded again when they are needed.
    """
    from reidkit.datasets import cache_folder, evict, list_stores

    folder = cache_folder() / "images"
    conditions = bool(keys) or older_than is not None or keep is not None
    if clear and conditions:
        raise click.UsageError("--clear removes all stores; leave it out to remove some of them")
    if not clear and not conditions:
        _show(folder)
        return
    removed = evict(
        folder,
        keys=keys or None,
        older_than=None if older_than is None else older_than * 86400,
        keep_bytes=None if keep is None else int(keep * 2**30),
    )
    for store in removed:
        click.echo(f"removed {store.key}  {store.label or 'an unfinished store'}  {_gib(store.bytes)}")
    left = list_stores(folder)
    busy = sum(store.in_use for store in left)
    click.echo(
        f"freed {_gib(sum(store.bytes for store in removed))}; {_gib(sum(store.bytes for store in left))} are left in "
        f"{folder}{f', {busy} of {len(left)} stores in use' if busy else ''}"
    )


def _show(folder: Path) -> None:
    import datetime

    from rich.table import Column, Table

    from reidkit.cli.console import show_table
    from reidkit.datasets import list_stores

    stores = list_stores(folder)
    if not stores:
        click.echo(f"no decoded images are stored in {folder}")
        return
    key = Column("key", no_wrap=True)  # broken it cannot be copied
    names = ("images of", "images", "size", "space", "last used", "state")
    table = Table(key, *names, title=f"decoded images, {folder}")
    for store in reversed(stores):
        used = datetime.datetime.fromtimestamp(store.last_used).strftime("%Y-%m-%d %H:%M")
        state = "in use" if store.in_use else "" if store.complete else "unfinished"
        size = "{}x{}".format(*store.size) if store.size[0] else ""
        table.add_row(store.key, store.label, f"{store.images:,}", size, _gib(store.bytes), used, state)
    show_table(table)
    click.echo(f"{_gib(sum(store.bytes for store in stores))} in all")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
