"""The `reidkit` command: parses, imports late, makes one call, prints."""

from functools import partial
from typing import Any

import click

from reidkit.__about__ import __version__
from reidkit.cli.cluster import cluster
from reidkit.cli.data import data
from reidkit.cli.doctor import doctor
from reidkit.cli.evaluate import evaluate
from reidkit.cli.export import export
from reidkit.cli.extract import extract
from reidkit.cli.pretrain import pretrain
from reidkit.cli.recipes import recipes
from reidkit.cli.report import report
from reidkit.cli.search import search
from reidkit.cli.select import select
from reidkit.cli.supervised import supervised
from reidkit.cli.uda import uda
from reidkit.cli.usl import usl
from reidkit.errors import ReidkitError

__all__ = ["cli", "main"]


class _BadInputError(click.ClickException):
    """Shown as one line, without a traceback."""

    exit_code = 2


class _Group(click.Group):
    """Shows every error that reidkit raises on purpose as one clear message, exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReidkitError as error:
            raise _BadInputError(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="reidkit")
def cli() -> None:
    """Learn to recognise individuals in unlabelled images.

    \b
    reidkit usl                                 train on generated pedestrians, no data needed
    reidkit usl --target msmt17                 train on MSMT17 without labels
    reidkit usl --target path/to/my/images      ... or on your own folder in Market-1501 layout
    reidkit uda --source market --target msmt17 learn from labels elsewhere first
    reidkit supervised --dataset market         train with labels
    reidkit evaluate runs/usl-market --on market --on msmt17
    reidkit cluster features.npy -o labels.csv  pseudo-labels of any embeddings
    """  # noqa: D301  (\b keeps click from re-wrapping)


_TRAIN = (usl, uda, supervised, pretrain, select)
_USE = (evaluate, extract, search, cluster, export)
for command in (*_TRAIN, *_USE, data, report, recipes, doctor):
    cli.add_command(command)


main = partial(cli, prog_name="reidkit")
"""Entry point of the console script."""
