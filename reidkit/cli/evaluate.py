"""`reidkit evaluate`."""

import codecs
import csv
import json
from pathlib import Path
from typing import Any

import click

from reidkit.cli.options import FILE, data_root_option, model_options

__all__ = ["evaluate"]


@click.command(
    epilog="""\b
Examples:
  reidkit evaluate runs/usl-synthetic                         on the data set it was trained for
  reidkit evaluate model_best.pth.tar --on market --on msmt17 --rerank
  reidkit evaluate transformer_120.pth --on market --json scores.json --csv scores.csv
  reidkit evaluate runs/usl-market/checkpoints/last.pt --on market
"""
)
@click.argument("checkpoint", type=FILE)
@click.option("--on", "targets", multiple=True, help="Data set, a name or a folder; may be repeated.")
@data_root_option
@click.option("--no-cameras", is_flag=True, help="Treat all cameras as unknown: no same-camera image is left out.")
@click.option("--strict", is_flag=True, help="Stop at the first unreadable image.")
@click.option("--rerank", is_flag=True, help="Score k-reciprocal re-ranking too (k1 20, k2 6, lambda 0.3).")
@click.option("--json", "json_file", type=FILE, help="JSON file for the scores.")
@click.option("--csv", "csv_file", type=FILE, help="CSV file for the scores.")
@model_options
def evaluate(
    checkpoint: Path,
    targets: tuple[str, ...],
    no_cameras: bool,
    json_file: Path | None,
    csv_file: Path | None,
    device: str,
    precision: Any,
    **options: Any,
) -> None:
    """Retrieval accuracy of CHECKPOINT, a run folder or a file of weights, by the Market-1501 protocol.

    Checkpoints of other projects are recognised by their layout: those of supervised training retrieve with the
    feature before the BN neck, those of unsupervised training with that after it.
    """
    from reidkit.cli.console import Display, show_table
    from reidkit.cli.console_tables import scores_table
    from reidkit.loop import create_fabric, evaluate_on, load_model
    from reidkit.storage import atomic_write, check_writable

    if json_file is not None and json_file == csv_file:
        raise click.UsageError(f"--json and --csv both name {json_file}; name two files")
    for path in filter(None, (json_file, csv_file)):
        check_writable(path)
    with Display() as display:
        trained = load_model(checkpoint)
        fabric = create_fabric(device, precision)
        targets = targets or (trained.config.data.target,)
        evaluations = evaluate_on(fabric, trained, targets, cameras=not no_cameras, progress=display, **options)
    show_table(scores_table(trained.path, evaluations))
    # Rows for other programs: metrics in per cent, not rounded
    rows = [
        {"dataset": dataset, "reranked": reranked, **scores, "checkpoint": str(trained.path)}
        for dataset, reranked, scores in evaluations
    ]
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(rows, indent=2) + "\n").encode())
    if csv_file is not None:
        with atomic_write(csv_file) as file:
            writer = csv.DictWriter(codecs.getwriter("utf-8")(file), rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
