"""`reidkit uda`."""

from typing import Any

import click

from reidkit.cli.options import FILE, clustering_options, training_options

__all__ = ["uda"]


@click.command(
    epilog="""\b
Examples:
  reidkit uda                                            generated pedestrians of two domains, on any machine
  reidkit uda --source market --target msmt17            both stages, one run folder
  reidkit uda --source market --target msmt17 --source-checkpoint runs/supervised-market
  reidkit uda --source a/ --target b/ --strategy joint   folders in Market-1501 layout
"""
)
@click.option("--source", help="Labelled data set: a name, a folder or a table.  [default: the recipe's]")
@click.option("--target", help="Unlabelled data set, likewise.  [default: the recipe's, or synthetic-b]")
@click.option("--source-checkpoint", type=FILE, help="Weights trained on the source: skips the first stage.")
@click.option(
    "--strategy",
    type=click.Choice(("finetune", "joint")),
    help="finetune: the target alone after the source; joint: both in one softmax.  [default: the recipe's]",
)
@training_options
@clustering_options
def uda(**options: Any) -> None:
    """Train on a labelled source, then adapt to an unlabelled target."""
    from reidkit.cli.runs import run_training
    from reidkit.uda import train_uda

    run_training("uda", train_uda, options, default_target="synthetic-b")
