"""`reidkit doctor`."""

import click

__all__ = ["doctor"]


@click.command()
def doctor() -> None:
    """The environment: versions, devices, precision, data; what a bug report needs."""
    from reidkit.cli.console import show_table
    from reidkit.cli.tables import environment_table

    show_table(environment_table())
