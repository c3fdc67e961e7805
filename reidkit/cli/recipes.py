"""`reidkit recipes`."""

import click

__all__ = ["recipes"]


@click.group()
def recipes() -> None:
    """The shipped settings."""


@recipes.command("list")
def list_all() -> None:
    """Name and purpose of every recipe."""
    from rich.table import Table

    from reidkit.cli.console import show_table
    from reidkit.loop import list_recipes, read_recipe

    table = Table("recipe", "for")
    for name in list_recipes():
        table.add_row(name, read_recipe(name)["recipe"]["description"])
    show_table(table)


@recipes.command(epilog="Example: reidkit recipes show usl/msmt17")
@click.argument("name")
def show(name: str) -> None:
    """Every setting of a recipe with its meaning; the output is a file for --config."""
    from reidkit.loop import read_recipe, resolve_config
    from reidkit.loop.recipes import describe_config

    click.echo(describe_config(resolve_config([read_recipe(name)])))
