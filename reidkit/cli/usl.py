"""`reidkit usl`."""

from typing import Any

import click

from reidkit.cli.options import training_options

__all__ = ["usl"]


@click.command(
    epilog="""\b
Examples:
  reidkit usl                                            generated pedestrians, on any machine
  reidkit usl --target market --pretrained weights.pth   Market-1501 below the data root
  reidkit usl --target photos/ --no-flip --epochs 20     a folder in Market-1501 layout
  reidkit usl --resume                                   go on with the last run
"""
)
@click.option("--target", default="synthetic", show_default=True, help="Data set: a name or a folder.")
@training_options
def usl(target: str, **options: Any) -> None:
    """Train without labels: cluster features into pseudo-labels, learn from them, repeat."""
    from reidkit.cli.runs import run_training
    from reidkit.usl import train_usl

    run_training("usl", target, train_usl, options)
