"""The report: one HTML file that needs nothing but a browser."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from reidkit.__about__ import __version__
from reidkit.reporting.figures import curves, size_histogram
from reidkit.reporting.gallery import Gallery, make_gallery
from reidkit.reporting.headline import headline, progress
from reidkit.reporting.run import Clustering, Epoch, Run, read_run
from reidkit.reporting.tables import epoch_table, sections
from reidkit.reporting.wording import count

__all__ = ["write_report"]

_MODES = {"usl": "USL", "uda": "UDA", "supervised": "Supervised training"}


def write_report(run_folder: Path) -> Path:
    """Write report.html into a run folder: one self-contained page about what the run did and found.

    It shows the headline figures, curves, the clusters of the last epoch that trained on clusters (in pictures where
    the images are still there), every epoch, all settings and the environment. The run may be unfinished; what is
    missing or damaged is said on the page. All images lie inside it, no script is used, nothing is fetched, and every
    name is escaped.

    Args:
        run_folder: The folder that a training command printed as its run folder.

    Returns:
        The page's path, run_folder / "report.html"; an older page there is replaced in one step.

    Raises:
        RunError: The folder is no run folder, or it cannot be written.
    """
    from reidkit.loop.files import atomic_write  # the loop's room loads torch

    html = _render(read_run(run_folder))
    path = run_folder / "report.html"
    with atomic_write(path) as file:
        # File names that are not valid Unicode keep a question mark for each such byte.
        file.write(html.encode("utf-8", "replace"))
    return path


def _render(run: Run) -> str:
    environment = Environment(
        loader=PackageLoader("reidkit.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2").render(_content(run))


def _content(run: Run) -> dict[str, Any]:
    """What the template shows, by its names there."""
    finished, state = progress(run)
    clustering = run.clustering
    gallery = make_gallery(clustering) if clustering else None
    return {
        "title": _title(run),
        "folder": run.folder.resolve().name,
        "finished": finished,
        "state": state,
        "recipe_name": run.setting("recipe", "name", str),
        "recipe_purpose": run.setting("recipe", "description", str),
        "notes": [*run.notes, *_skipped_steps(run.epochs)],
        "cards": headline(run),
        "curves": curves(run.epochs),
        "shaded": any(epoch.kind == "instances" for epoch in run.epochs),
        "clustering": _describe(clustering) if clustering else None,
        "histogram": size_histogram(clustering.clusters[1]) if clustering and gallery and gallery.clusters else None,
        "gallery": gallery if gallery and any(thumbnail.source for thumbnail in gallery.thumbnails) else None,
        "absent": _absent(gallery) if gallery else "",
        "table": epoch_table(run.epochs),
        "settings": sections(run.config, "run"),
        "environment": sections(run.environment, "system"),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": __version__,
    }


def _title(run: Run) -> str:
    """Mode and target; of a target that is a folder, its name."""
    mode, target = run.config.get("mode"), run.setting("data", "target", str)
    if not isinstance(mode, str) or target is None:
        return run.folder.resolve().name
    return f"{_MODES.get(mode, mode)} on {Path(target).name or target}"


def _skipped_steps(epochs: list[Epoch]) -> list[str]:
    skipped = int(sum(epoch.figures.get("skipped", 0) for epoch in epochs))
    return [f"{count(skipped, 'training step')} left out because the loss was not finite."] if skipped else []


def _describe(clustering: Clustering) -> str:
    labels, sizes = clustering.clusters
    images = count(len(clustering.labels), "image")
    if not len(labels):
        return f"Epoch {clustering.epoch}: all {images} were noise."
    spread = f"of {sizes.min():,} to {sizes.max():,} images (median {np.median(sizes):g})"
    return (
        f"Epoch {clustering.epoch}: {images} fell into {count(len(labels), 'cluster')} {spread}; "
        f"{clustering.noise:,} were noise."
    )


def _absent(gallery: Gallery) -> str:
    """Says which pictures are missing, empty if none is."""
    missing = [thumbnail for thumbnail in gallery.thumbnails if thumbnail.problem]
    if not missing:
        return ""
    gone = sum(thumbnail.problem == "gone" for thumbnail in missing)
    causes = [f"{gone:,} no longer where the run found them"] if gone else []
    causes += [f"{len(missing) - gone:,} unreadable"] if gone < len(missing) else []
    return f"{len(missing):,} of {len(gallery.thumbnails):,} images cannot be shown: {', '.join(causes)}."
