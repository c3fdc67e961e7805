"""`reidkit supervised`."""

from typing import Any

import click

from reidkit.cli.options import training_options

__all__ = ["supervised"]


@click.command(
    epilog="""\b
Examples:
  reidkit supervised                                     generated pedestrians, on any machine
  reidkit supervised --dataset market --pretrained weights.pth
  reidkit supervised --recipe supervised/msmt17-vit-base-ics --dataset msmt17
"""
)
@click.option("--dataset", "target", help="Data set: a name or a folder.  [default: the recipe's, or synthetic]")
@training_options
@click.option("--batch-size", "supervised_batch_size", type=int, help="Images per training step.")
def supervised(**options: Any) -> None:
    """Train on the identities of a labelled data set, in the same loop as the other modes."""
    from reidkit.cli.runs import run_training
    from reidkit.supervised import train_supervised

    run_training("supervised", train_supervised, options, default_target="synthetic")
