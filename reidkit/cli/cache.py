"""`reidkit data cache`."""

from pathlib import Path

import click

__all__ = ["cache"]


@click.command(
    epilog="""\b
Examples:
  reidkit data cache                    what is there
  reidkit data cache --older-than 30    remove what was not used for 30 days
  reidkit data cache --keep 20          ... the least recently used, until 20 GiB are left
  reidkit data cache --evict 3f2a       ... the store whose key begins so
"""
)
@click.option("--clear", is_flag=True, help="Remove all stores.")
@click.option("--evict", "keys", metavar="KEY", multiple=True, help="Remove this store; repeatable.")
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Remove stores not used for so long.")
@click.option("--keep", metavar="GIB", type=click.FloatRange(min=0), help="Remove the least recently used beyond this.")
def cache(clear: bool, keys: tuple[str, ...], older_than: float | None, keep: float | None) -> None:
    """List the stores of decoded images, or remove some; those in use stay.

    Of several conditions all must hold. What is removed is decoded again when it is needed.
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
