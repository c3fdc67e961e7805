"""`reidkit report`."""

from pathlib import Path

import click

from reidkit.cli.options import FILE

__all__ = ["report"]


@click.command(
    epilog="""\b
Examples:
  reidkit report runs/usl-market                            write runs/usl-market/report.html again
  reidkit report runs/usl-market -o page.html
  reidkit report runs/usl-market runs/usl-market-2 -o comparison.html
"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=FILE)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file to write.  [default: report.html in the run folder; comparison.html here for several runs]",
)
def report(runs: tuple[Path, ...], output: Path | None) -> None:
    """One self-contained HTML page about RUN, a run folder; or one that compares several of them.

    The runs may be unfinished; the page says what is missing, damaged or cannot be known.
    """
    from reidkit.reporting import write_comparison, write_report

    if len(runs) == 1:
        page = write_report(runs[0], output)
    else:
        page = write_comparison(runs, output or Path("comparison.html"))
    click.echo(f"report {page}")
