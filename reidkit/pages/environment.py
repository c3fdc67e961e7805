"""From a template to a file."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reidkit.__about__ import __version__
from reidkit.errors import DataError
from reidkit.pages.charts import Figure
from reidkit.storage import atomic_write, check_writable

__all__ = ["check_page", "write_figures", "write_page"]


def check_page(path: Path) -> None:
    """Check that a page can be written to a path, before the work that it shows is done.

    Raises:
        DataError: The suffix is not .html, or the file cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{path} is no name for a plot, which is an HTML page; name a file such as {path.stem}.html")
    check_writable(path)


def write_figures(path: Path, title: str, text: str, figures: Sequence[Figure]) -> None:
    """Write a self-contained page of charts, each value in a tooltip.

    Args:
        path: The page, .html; an older one there is replaced in one step.
        title: Heading.
        text: Explanation below the heading, empty for none.
        figures: The charts.

    Raises:
        DataError: The suffix is not .html, or the file cannot be written.
        RunError: The disk is full.
    """
    check_page(path)
    write_page(path, "reidkit.pages", "figures.html.j2", {"title": title, "text": text, "figures": figures})


def write_page(path: Path, package: str, template: str, content: Mapping[str, Any]) -> None:
    """Render a template of a package, over those of this one, and write it in one step.

    The page's policy lets exactly one script run, `hover.js`, by its hash.

    Raises:
        RunError: The file cannot be written.
    """
    script = resources.files("reidkit.pages").joinpath("hover.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("reidkit.pages", "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(
        script=Markup(script),
        script_hash=Markup(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
        **content,
    )
    with atomic_write(path) as file:
        # File names that are not valid Unicode keep a question mark for each such byte.
        file.write(html.encode("utf-8", "replace"))
