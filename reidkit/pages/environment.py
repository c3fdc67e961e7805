"""From a template to a file."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reidkit.__about__ import __version__

__all__ = ["write_page"]


def write_page(path: Path, package: str, template: str, content: Mapping[str, Any]) -> None:
    """Render a template of a package, over those of this one, and write it in one step.

    The page's policy lets exactly one script run, `hover.js`, by its hash.

    Raises:
        RunError: The file cannot be written.
    """
    from reidkit.storage import atomic_write  # the loop's room loads torch

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
