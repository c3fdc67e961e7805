"""`reidkit export`."""

from typing import Any

import click

from reidkit.cli.options import FILE, data_root_option

__all__ = ["export"]

FORMATS = ("onnx", "safetensors", "torchscript", "transreid-ssl")


@click.command(
    epilog="""\b
Examples:
  reidkit export runs/usl-market --format onnx                    usl-market.onnx, its best model
  reidkit export model_best.pth.tar --format onnx -o person.onnx --verify path/to/images
  reidkit export runs/usl-market --format transreid-ssl           usl-market.pth for TransReID-SSL's public code

\b
onnx and torchscript take `images`, float32 (B, 3, H, W), RGB in [0, 1], for any B; they normalise them inside and
return `features` (B, D), L2-normalised. Image size, resize filter, mean, std and where the feature is taken are
recorded in every file, but for transreid-ssl of supervised models, whose readers allow weights only.
"""
)
@click.argument("checkpoint", type=FILE)
@click.option("--format", "file_format", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option("-o", "--output", type=FILE, help="The file.  [default: the checkpoint's name, in this folder]")
@click.option(
    "--verify",
    type=FILE,
    help="Real images to verify the file on: a folder, a table or a data set.  [default: the run's, if at hand]",
)
@data_root_option
@click.option("--no-cameras", is_flag=True, help="Export a model with camera embeddings as one that knows no camera.")
def export(no_cameras: bool, **options: Any) -> None:
    """Write the model of CHECKPOINT, a run folder or a file of weights, for other programs.

    The file is compared with the checkpoint on random and real images, one by one and in batches, before it gets its
    name; where a feature differs by more than 1e-4 there is no file, but an error.
    """
    from reidkit.cli.console import Display
    from reidkit.export import BATCH_SIZES, export_checkpoint

    with Display():
        done = export_checkpoint(**options, cameras=not no_cameras)
    sizes = ", ".join(map(str, BATCH_SIZES))
    click.echo(
        f"verified on {done.random_images} random and {done.real_images} real images in batches of {sizes}: largest "
        f"difference {done.difference:.1e}"
    )
    for name in ("input", "output", "image_size", "normalisation", "retrieval"):
        click.echo(f"{name:>14} {done.metadata[name]}")
    click.echo(f"{options['file_format']} {done.path} ({done.path.stat().st_size / 2**20:,.1f} MiB)")
