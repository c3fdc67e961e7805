"""`reidkit evaluate`."""

from pathlib import Path

import click

from reidkit.cli.options import PRECISIONS, data_root_option, device_option

__all__ = ["evaluate"]


@click.command(
    epilog="""\b
Examples:
  reidkit evaluate runs/usl-synthetic                         on the data set it was trained for
  reidkit evaluate model_best.pth.tar --on market --on msmt17
  reidkit evaluate runs/usl-market/checkpoints/last.pt --on market
"""
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--on", "targets", multiple=True, help="Data set, a name or a folder; may be repeated.")
@data_root_option
@click.option("--no-cameras", is_flag=True, help="Treat all cameras as unknown: no same-camera image is left out.")
@click.option("--strict", is_flag=True, help="Stop at the first unreadable image.")
@device_option
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", help="Arithmetic of the model.")
def evaluate(
    checkpoint: Path,
    targets: tuple[str, ...],
    data_root: Path | None,
    no_cameras: bool,
    strict: bool,
    device: str | None,
    precision: str,
) -> None:
    """Retrieval accuracy of CHECKPOINT, a run folder or a file of weights, by the Market-1501 protocol."""
    from reidkit.cli.console import Display, show_table
    from reidkit.cli.tables import scores_table
    from reidkit.loop import create_fabric, evaluate_on, load_model

    with Display() as display:
        trained = load_model(checkpoint)
        fabric = create_fabric(device or "auto", precision)  # type: ignore[arg-type]  # click has checked it
        scores = evaluate_on(
            fabric,
            trained,
            targets or (trained.config.data.target,),
            data_root=data_root,
            cameras=not no_cameras,
            strict=strict,
            progress=display,
        )
    show_table(scores_table(trained.path, scores))
