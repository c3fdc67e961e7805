"""`reidkit usl`."""

from typing import Any

import click

from reidkit.cli.options import clustering_options, training_options

__all__ = ["usl"]


@click.command(
    epilog="""\b
Examples:
  reidkit usl                                            generated pedestrians, on any machine
  reidkit usl --target market --pretrained weights.pth   Market-1501 below the data root
  reidkit usl --target photos/ --no-flip --epochs 20     a folder in Market-1501 layout
  reidkit usl --resume --target photos/                  continue the last run on that folder
"""
)
@click.option("--target", help="Data set: a name, a folder or a table.  [default: the recipe's, or synthetic]")
@training_options
@clustering_options
def usl(**options: Any) -> None:
    """Train without labels: cluster features into pseudo-labels, learn from them, repeat."""
    from reidkit.cli.runs import run_training
    from reidkit.usl import train_usl

    run_training("usl", train_usl, options, default_target="synthetic")
