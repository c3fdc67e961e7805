"""`reidkit select`."""

from pathlib import Path
from typing import Any

import click

from reidkit.cli.options import FILE, PRECISIONS, data_root_option, device_option

__all__ = ["select"]


@click.command(
    epilog="""\b
Examples:
  reidkit select --pretrained dino.pth --finetuned runs/supervised-msmt17 --data luperson -o cfs50.txt
  reidkit select --pretrained dino.pth --finetuned runs/supervised-msmt17 --data images/ --keep 200000 -o cfs.pkl
  torchrun --nproc-per-node 8 -m reidkit select ...           the same, shared by eight processes

A stopped command resumes; with another --keep, a finished one takes its scores from --scores.
"""
)
@click.option(
    "--pretrained",
    type=FILE,
    required=True,
    help="The model pre-trained on the large set: a run folder or a checkpoint of any known layout.",
)
@click.option(
    "--finetuned",
    type=FILE,
    required=True,
    help="The same model after fine-tuning on re-identification; images are read at its size.",
)
@click.option("--data", "target", required=True, help="Images to choose from: a name or a folder; the training split.")
@data_root_option
@click.option(
    "--keep",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of the readable images in (0, 1], rounded up; or how many of them, above 1.",
)
@click.option(
    "--direction",
    type=click.Choice(("high", "low")),
    default="high",
    show_default=True,
    help="Which scores to keep. High: little forgotten in fine-tuning, so close to its domain.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    help="The list, best first: text, or the published pickle with the suffix .pkl.",
)
@click.option("--scores", type=FILE, help="Parquet table of all scores.  [default: OUTPUT with .parquet]")
@click.option(
    "--plots",
    type=FILE,
    help="Folder for a histogram of the scores and the images of both ends.  [default: OUTPUT with -plots]",
)
@device_option
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", help="Arithmetic of the models.")
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
def select(  # noqa: PLR0913
    pretrained: Path,
    finetuned: Path,
    target: str,
    data_root: Path | None,
    output: Path,
    scores: Path | None,
    plots: Path | None,
    device: str | None,
    precision: Any,
    quiet: bool,
    **choice: Any,
) -> None:
    """Choose images to pre-train on by the catastrophic forgetting score (CFS).

    Every image's score is the cosine of its features before and after fine-tuning. `reidkit pretrain --list` takes the
    list of those that are kept.
    """
    from reidkit.cli.console import Display
    from reidkit.datasets import load_dataset
    from reidkit.loop import create_fabric, load_model
    from reidkit.pretrain import data_folder, describe_selection, relative_names, select_images, write_selection_plots
    from reidkit.storage import check_writable

    table = scores or output.with_suffix(".parquet")
    pictures = plots or output.with_name(f"{output.stem}-plots")
    if table == output:
        raise click.UsageError(f"--output and --scores both name {output}; give two different files")
    for path in (output, table, pictures.parent / "plots"):
        check_writable(path)
    fabric = create_fabric(device or "auto", precision)
    with Display(quiet=quiet or not fabric.is_global_zero) as display:
        models = load_model(pretrained), load_model(finetuned)
        dataset = load_dataset(target, data_root)
        root = data_folder(dataset.root)
        names = sorted(set(relative_names(dataset.train.paths, dataset.root)))
        if not names:
            raise click.UsageError(f"{target} has no training images to choose from; name another data set or a folder")
        del dataset  # of millions of images only the names stay in memory
        selection = select_images(fabric, *models, root, names, output, table, progress=display, **choice)
        if fabric.is_global_zero:
            write_selection_plots(selection, root, pictures, image_size=models[1].model.image_size)
    if fabric.is_global_zero and not quiet:
        click.echo(f"{describe_selection(selection)}\nlist {output}   scores {table}   plots {pictures}")
