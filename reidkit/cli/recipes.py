"""`reidkit recipes`."""

import click

__all__ = ["recipes"]


@click.group()
def recipes() -> None:
    """The shipped settings."""


@recipes.command("list")
def list_all() -> None:
    """Name, purpose and expected result of every recipe."""
    from rich.table import Column, Table

    from reidkit.cli.console import show_table
    from reidkit.runs import list_recipes, read_recipe

    # A name that is broken cannot be copied
    table = Table(Column("recipe", no_wrap=True), "for", "expected")
    for name in list_recipes():
        info = read_recipe(name)["recipe"]
        table.add_row(name, info["description"], info.get("expected", ""))
    show_table(table)


@recipes.command(epilog="Example: reidkit recipes show usl/msmt17")
@click.argument("name")
def show(name: str) -> None:
    """Every setting of a recipe with its meaning, unit and source; the output is a file for --config."""
    from reidkit.runs import describe_config, read_recipe, resolve_config

    click.echo(describe_config(resolve_config([read_recipe(name)])))
