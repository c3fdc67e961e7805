"""`reidkit pretrain`."""

from typing import Any

import click

from reidkit.cli.options import training_options

__all__ = ["pretrain"]


@click.command(
    epilog="""\b
Examples:
  reidkit pretrain                                        generated pedestrians, on any machine
  reidkit pretrain --data photos/ --epochs 40             all images in and below a folder
  reidkit pretrain --data luperson --list cfs.txt --recipe pretrain/luperson-vit-small-ics-cfs50
  reidkit usl --target market --pretrained runs/pretrain-photos    what follows
"""
)
@click.option("--data", "target", help="Images: a data set, a folder, a table.  [default: the recipe's, or synthetic]")
@click.option("--more", multiple=True, metavar="DATA", help="Further images; may be repeated.")
@click.option("--list", "image_list", metavar="FILE", help="Only the images that it names, as `reidkit select` does.")
@click.option("--probe", metavar="DATA", help="Labelled data set that scores the features.  [default: that of --data]")
@training_options
@click.option("--batch-size", type=int, help="Images per training step.")
def pretrain(**options: Any) -> None:
    """Train a backbone on unlabelled images by self-distillation (DINO), as a start for usl, uda and supervised.

    The feature is scored on a labelled data set while it trains, where there is one; nothing is learned from labels.
    """
    from reidkit.cli.runs import run_training
    from reidkit.pretrain import train_pretrain

    run_training("pretrain", train_pretrain, options, default_target="synthetic")
