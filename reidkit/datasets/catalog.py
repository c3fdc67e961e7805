"""Finding a data set on the disk, by its name or its path."""

import difflib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
from pydantic import ValidationError

from reidkit.datasets.benchmarks import CATALOG, CUSTOM_LAYOUTS, DatasetEntry, Layout
from reidkit.datasets.image_folder import is_folder, is_hidden, load_plain
from reidkit.datasets.lmdb_images import DATABASE_KINDS, load_lmdb
from reidkit.datasets.market import load_market
from reidkit.datasets.splits import ReIDDataset
from reidkit.datasets.table import TABLE_KINDS, load_table
from reidkit.errors import ConfigError, DataError
from reidkit.synthetic import FORMAT, SyntheticConfig, make_synthetic

__all__ = [
    "SYNTHETIC",
    "FoundRoot",
    "Progress",
    "cache_folder",
    "default_data_root",
    "find_roots",
    "load_dataset",
    "synthetic_config",
]

logger = logging.getLogger(__name__)

SYNTHETIC = {
    "synthetic": SyntheticConfig(),
    "synthetic-b": SyntheticConfig(style="winter"),
    "synthetic-crowd": SyntheticConfig(
        style="winter", seed=1, train_identities=300, test_identities=20, images_per_camera=1, distractors=0
    ),
    "synthetic-many": SyntheticConfig(seed=2, train_identities=4000, images_per_camera=1, distractors=0),
    "synthetic-many-b": SyntheticConfig(
        style="winter", seed=3, train_identities=4000, images_per_camera=1, distractors=0
    ),
}
"""Name -> settings of generated sets, which need no download. The second is another domain to adapt to, the third has
many people of that domain with few images of each, to learn first features from; the last two are for pre-training."""

Progress = Callable[[int, int], None]

_FILE_KINDS = (*TABLE_KINDS, *DATABASE_KINDS)
_SEARCH_DEPTH = 2  # archives often unpack into a folder inside a folder


class FoundRoot(NamedTuple):
    """Folder of a known data set."""

    root: Path
    layout: Layout
    release: str
    """Which of its releases this is, where results differ between them; otherwise empty."""


def default_data_root() -> Path:
    """`REIDKIT_DATA`, or `data` in the working folder."""
    return Path(os.environ.get("REIDKIT_DATA") or "data")


def cache_folder() -> Path:
    """`REIDKIT_CACHE`, or the user's cache folder of this platform."""
    return Path(os.environ.get("REIDKIT_CACHE") or platformdirs.user_cache_dir("reidkit"))


def load_dataset(target: str, data_root: Path | None = None, *, progress: Progress | None = None) -> ReIDDataset:
    """Load a data set by name or by path, and log its version and place.

    Args:
        target: A name of `SYNTHETIC` or `CATALOG`; a folder in one of `CUSTOM_LAYOUTS` or of plain images; a table of
            images (.csv, .parquet); an LMDB; or the name of such a folder or file below the data root.
        data_root: Folder of the data sets; None is `default_data_root()`.
        progress: Called with (done, total) while a synthetic set is generated, which happens once.

    Raises:
        DataError: The name is unknown, several data sets are meant by it, or the data cannot be found or read.
    """
    dataset = _load(target, data_root or default_data_root(), progress)
    logger.info("%s: %s, at %s", dataset.name, dataset.version, dataset.root)
    return dataset


def _load(target: str, data_root: Path, progress: Progress | None) -> ReIDDataset:
    if target in SYNTHETIC:
        return _load_synthetic(target, progress)
    if target in CATALOG:
        return _load_known(CATALOG[target], data_root)
    for path in (Path(target), data_root / target):
        if path.is_dir():
            return _load_folder(path)
        if path.is_file():
            return _load_file(path)
    raise DataError(_unknown(target, data_root))


def find_roots(entry: DatasetEntry, data_root: Path) -> list[FoundRoot]:
    """Find all folders of a known data set: those of its names in the data root, or folders in these.

    The data root itself is taken too, if it has one of the names or a layout that no other set has.
    """
    named = (_fitting(folder, entry.layouts) for folder in _named(data_root, entry.folders))
    found = [pair for pairs in named for pair in pairs]
    if not found and data_root.is_dir():
        is_named = data_root.resolve().name.lower() in entry.folders
        layouts = [layout for layout in entry.layouts if is_named or not layout.shared]
        found = [(data_root, layout) for layout in layouts if layout.fits(data_root)][:1]
    return [FoundRoot(root, layout, layout.release(root) if layout.release else "") for root, layout in found]


def synthetic_config(settings: Mapping[str, Any]) -> SyntheticConfig:
    """Build and check the settings of a generated set.

    Raises:
        ConfigError: A value is out of bounds.
    """
    try:
        return SyntheticConfig.model_validate(settings)
    except ValidationError as error:
        problems = (f"{problem['loc'][0]}={problem['input']!r}: {problem['msg']}" for problem in error.errors())
        raise ConfigError("; ".join(problems)) from None


def _load_known(entry: DatasetEntry, data_root: Path) -> ReIDDataset:
    found = find_roots(entry, data_root)
    if not found:
        raise DataError(_not_found(entry, data_root))
    # Copies of one release give the same results
    if len({place.release for place in found}) > 1:
        places = " and ".join(f"{place.root} ({place.release})" for place in found)
        raise DataError(
            f"several releases of {entry.title} were found, and results differ between them: {places}. Say which is "
            f"meant by --data-root or REIDKIT_DATA, for instance --data-root {found[0].root}, or move the others out "
            f"of {data_root}"
        )
    if entry.notice:
        logger.warning("%s", entry.notice)
    return found[0].layout.load(found[0].root, entry.name)


def _load_synthetic(name: str, progress: Progress | None) -> ReIDDataset:
    config = SYNTHETIC[name]
    digest = hashlib.sha256(f"{FORMAT} {config.model_dump_json()}".encode()).hexdigest()[:8]
    folder = cache_folder() / "synthetic" / f"{name}-{digest}"
    make_synthetic(folder, config, progress=progress)
    return load_market(folder, name, f"generated, {config.style}, seed {config.seed}")


def _load_folder(folder: Path) -> ReIDDataset:
    """A folder in a known layout, at it or below it, else all images in it."""
    name = folder.resolve().name
    found = _fitting(folder, CUSTOM_LAYOUTS)
    if len(found) > 1:
        places = ", ".join(str(root) for root, _ in found)
        raise DataError(f"{folder} holds {len(found)} data sets: {places}; name one of them")
    if found:
        root, layout = found[0]
        return layout.load(root, name)
    try:
        return load_plain(folder, name)
    except DataError as error:
        markers = ", ".join(layout.marker for layout in CUSTOM_LAYOUTS)
        raise DataError(
            f"{error}, and is in no known layout: neither it nor a folder in it holds one of {markers}. Name a folder "
            "in Market-1501 layout, one with images, a table (.csv, .parquet) or an LMDB"
        ) from None


def _load_file(path: Path) -> ReIDDataset:
    if path.suffix.lower() in _FILE_KINDS:
        load = load_lmdb if path.suffix.lower() in DATABASE_KINDS else load_table
        return load(path, path.stem)
    raise DataError(
        f"{path} is a file, but neither a .csv nor a .parquet table of images nor an LMDB ("
        f"{', '.join(DATABASE_KINDS)}); name a folder or such a file"
    )


def _named(data_root: Path, names: Sequence[str]) -> list[Path]:
    """Folders in the data root that have one of the names, in any case, in the order of the names."""
    if not data_root.is_dir():
        return []
    folders = [child for child in sorted(data_root.iterdir()) if child.name.lower() in names and child.is_dir()]
    return sorted(folders, key=lambda folder: names.index(folder.name.lower()))


def _fitting(folder: Path, layouts: Sequence[Layout]) -> list[tuple[Path, Layout]]:
    """The folders in one of the layouts that are nearest to a folder: it, those in it, or those in these."""
    for level in _descend(folder, _SEARCH_DEPTH):
        fitting = ((place, next((layout for layout in layouts if layout.fits(place)), None)) for place in level)
        found = [(place, layout) for place, layout in fitting if layout is not None]
        if found:
            return found
    return []


def _descend(folder: Path, depth: int) -> Iterator[list[Path]]:
    """A folder, the folders in it, and so on; hidden ones and archive leftovers are passed over."""
    level = [folder] if folder.is_dir() else []
    for remaining in range(depth, -1, -1):
        yield level
        if remaining:
            level = [child for parent in level for child in _folders_in(parent)]


def _folders_in(parent: Path) -> list[Path]:
    # Folders may hold millions of images: the kind of a directory entry is known without a look at the file.
    with os.scandir(parent) as entries:
        return sorted(parent / entry.name for entry in entries if is_folder(entry) and not is_hidden(entry.name))


def _not_found(entry: DatasetEntry, data_root: Path) -> str:
    looked = ", ".join(str(data_root / name) for name in entry.folders)
    markers = " or ".join(layout.marker for layout in entry.layouts)
    present = ", ".join(map(str, _named(data_root, entry.folders)))
    return (
        f"{entry.title} was not found; looked at {looked} for a folder that holds {markers}"
        f"{f' ({present} holds none: is it fully extracted?)' if present else ''}. {entry.access}. Put it into "
        f"{data_root / entry.folders[0]}, or name the folder that holds it with --data-root or REIDKIT_DATA"
    )


def _unknown(target: str, data_root: Path) -> str:
    names = [*SYNTHETIC, *CATALOG]
    children = sorted(data_root.iterdir()) if data_root.is_dir() else []
    below = [child.name for child in children if child.is_dir() or child.suffix.lower() in _FILE_KINDS]
    close = difflib.get_close_matches(target, [*names, *below], n=1)
    holds = ", ".join(below) or ("which holds neither" if data_root.is_dir() else "which does not exist")
    return (
        f"unknown data set {target!r}{f' (did you mean {close[0]!r}?)' if close else ''}: neither a folder, nor a "
        f"file, nor a known name. Known are {', '.join(names)}; a folder in Market-1501 layout, a folder of images, a "
        f"table (.csv, .parquet) or an LMDB is taken by its path, or by its name below the data root {data_root} "
        f"({holds})"
    )
