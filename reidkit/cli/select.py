"""`reidkit select`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli.options import PRECISIONS, data_root_option, device_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reidkit.pretrain import Selection

__all__ = ["select"]

_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#AAAAAA"
"""Of Okabe and Ito's palette, which all kinds of colour vision tell apart."""
_ROWS, _COLUMNS = 4, 10


@click.command(
    epilog="""\b
Examples:
  reidkit select --pretrained dino.pth --finetuned runs/supervised-msmt17 --data luperson -o cfs50.txt
  reidkit select --pretrained dino.pth --finetuned runs/supervised-msmt17 --data images/ --keep 200000 -o cfs.pkl
  torchrun --nproc-per-node 8 -m reidkit select ...           the same, shared by eight processes

A stopped command goes on where it was; with another --keep, a finished one takes its scores from --scores.
"""
)
@click.option(
    "--pretrained",
    type=click.Path(path_type=Path),
    required=True,
    help="The model pre-trained on the large set: a run folder or a checkpoint of any known layout.",
)
@click.option(
    "--finetuned",
    type=click.Path(path_type=Path),
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
    type=click.Path(path_type=Path),
    required=True,
    help="The list, best first: text, or the published pickle with the suffix .pkl.",
)
@click.option(
    "--scores", type=click.Path(path_type=Path), help="Parquet table of all scores.  [default: OUTPUT with .parquet]"
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    help="Folder for a histogram of the scores and the images of both ends.  [default: OUTPUT with -plots]",
)
@device_option
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", help="Arithmetic of the models.")
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
def select(
    pretrained: Path,
    finetuned: Path,
    target: str,
    data_root: Path | None,
    keep: float,
    direction: str,
    output: Path,
    scores: Path | None,
    plots: Path | None,
    device: str | None,
    precision: str,
    quiet: bool,
) -> None:
    """Choose images to pre-train on by the catastrophic forgetting score (CFS).

    Every image's score is the cosine of its features before and after fine-tuning. `reidkit pretrain --list` takes the
    list of those that are kept.
    """
    from reidkit.cli.console import Display
    from reidkit.datasets import load_dataset
    from reidkit.loop import create_fabric, load_model
    from reidkit.pretrain import data_folder, relative_names, select_images
    from reidkit.storage import check_writable

    table = scores or output.with_suffix(".parquet")
    pictures = plots or output.with_name(f"{output.stem}-plots")
    if table == output:
        raise click.UsageError(f"--output and --scores both name {output}; give each a file of its own")
    for path in (output, table, pictures.parent / "plots"):
        check_writable(path)
    fabric = create_fabric(device or "auto", precision)  # type: ignore[arg-type]  # click has checked it
    leads = fabric.is_global_zero
    with Display(quiet=quiet or not leads) as display:
        models = load_model(pretrained), load_model(finetuned)
        dataset = load_dataset(target, data_root)
        root = data_folder(dataset.root)
        names = sorted(set(relative_names(dataset.train.paths, dataset.root)))
        if not names:
            raise click.UsageError(f"{target} has no training images to choose from; name another data set or a folder")
        del dataset  # of millions of images only the names stay in memory
        selection = select_images(
            fabric,
            *models,
            root,
            names,
            output,
            table,
            keep=keep,
            direction=direction,  # type: ignore[arg-type]  # click has checked it
            progress=display,
        )
        if leads:
            _draw(selection, root, models[1].model.image_size, pictures)
    if leads and not quiet:
        click.echo(f"{_headline(selection)}\nlist {output}   scores {table}   plots {pictures}")


def _draw(selection: "Selection", root: Path, size: tuple[int, int], folder: Path) -> None:
    """Write scores.png, highest.png and lowest.png."""
    from reidkit.errors import DataError

    scored = len(selection.names) - len(selection.unreadable)
    best = list(range(min(_ROWS * _COLUMNS, scored)))
    worst = [scored - 1 - place for place in best]
    first, last = selection.scores[selection.order[[0, scored - 1]]]
    ends = {"highest": best, "lowest": worst} if first >= last else {"highest": worst, "lowest": best}
    try:
        folder.mkdir(exist_ok=True)
        _histogram(selection).savefig(folder / "scores.png", dpi=150)
        for name, places in ends.items():
            figure = _contact_sheet(selection, name, places, root, size)
            figure.savefig(folder / f"{name}.png", dpi=110)
    except OSError as error:
        raise DataError(
            f"the plots could not be written to {folder}: {error}; name another folder by --plots"
        ) from error


def _histogram(selection: "Selection") -> "Figure":
    """How many images have which score, and where the cut is."""
    import numpy as np
    from matplotlib.figure import Figure

    kept = selection.scores[selection.order[: selection.kept]]
    others = selection.scores[selection.order[selection.kept :]]
    others = others[~np.isnan(others)]
    bins = np.histogram_bin_edges(np.concatenate([kept, others]), bins=80)
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist([kept, others], bins.tolist(), stacked=True, color=[_BLUE, _GREY], label=["kept", "left out"])
    axes.axvline(selection.cut, color=_VERMILION, linestyle="--", linewidth=1.5, label=f"cut at {selection.cut:.4f}")
    axes.set(xlabel="score: cosine of the features before and after fine-tuning", ylabel="images")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    figure.suptitle(_headline(selection), x=0.02, ha="left", fontsize=12, fontweight="bold")
    return figure


def _contact_sheet(selection: "Selection", end: str, places: list[int], root: Path, size: tuple[int, int]) -> "Figure":
    """Images of one end, as the models see them, each with its rank and score."""
    from matplotlib.figure import Figure

    from reidkit.datasets import decode_images

    numbers = selection.order[places].tolist()
    pixels = decode_images([root / selection.names[number] for number in numbers], size).pixels
    rows, columns = -(-len(numbers) // _COLUMNS), min(_COLUMNS, len(numbers))
    figure = Figure(figsize=(max(6.5, 1.15 * columns), 0.7 + rows * (0.4 + size[0] / size[1])), layout="constrained")
    cells: Any = figure.subplots(rows, columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    for cell, place, number, image in zip(cells.flat, places, numbers, pixels, strict=False):
        cell.imshow(image.transpose(1, 2, 0))
        colour = _BLUE if place < selection.kept else _VERMILION
        cell.set_title(f"#{place + 1:,}\n{selection.scores[number]:.3f}", fontsize=8, color=colour)
    title = f"The {len(numbers)} {end} scores: rank and score; blue is kept, vermilion left out"
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    return figure


def _headline(selection: "Selection") -> str:
    unreadable = len(selection.unreadable)
    return (
        f"Kept {selection.kept:,} of {len(selection.names):,} images, cut at {selection.cut:.4f}"
        f"{f'; {unreadable:,} unreadable' if unreadable else ''}"
    )
