"""Every data set that reidkit knows by name, and how one is found on the disk."""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from reidkit.datasets.market import MARKET_FOLDERS, load_market
from reidkit.datasets.msmt17 import MSMT17_LISTS, load_msmt17
from reidkit.datasets.splits import ReIDDataset
from reidkit.datasets.synthetic import FORMAT, SyntheticConfig, make_synthetic
from reidkit.errors import ConfigError, DataError

__all__ = [
    "CATALOG",
    "SYNTHETIC",
    "DatasetEntry",
    "Progress",
    "cache_folder",
    "default_data_root",
    "find_root",
    "load_dataset",
    "synthetic_config",
]

SYNTHETIC = {
    "synthetic": SyntheticConfig(),
    "synthetic-b": SyntheticConfig(style="winter"),
    "synthetic-crowd": SyntheticConfig(
        style="winter", seed=1, train_identities=300, test_identities=20, images_per_camera=1, distractors=0
    ),
}
"""Name -> what is generated: sets that need no download. The second is another domain to adapt to, the third has many
people of that domain, few images of each, to learn first features from."""

Progress = Callable[[int, int], None]

_SEARCH_DEPTH = 2  # archives often unpack into a folder inside a folder


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One data set that is known by name."""

    name: str
    title: str
    folders: tuple[str, ...]
    """Names under which the set's folder is looked for below the data root."""
    expected: dict[str, tuple[int, int]]
    """Split -> (identities, images) as published; gallery counts are without junk."""
    access: str
    """Where its owners give it out, in words."""
    has_own_lists: bool = False
    """Whether the set has a layout of its own beside the Market-1501 one."""


CATALOG = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            "market",
            "Market-1501",
            ("market", "market1501", "Market-1501", "Market-1501-v15.09.15"),
            {"train": (751, 12_936), "query": (750, 3_368), "gallery": (751, 15_913)},
            "Market-1501 (Zheng et al., ICCV 2015) is linked from its authors' project page",
        ),
        DatasetEntry(
            "msmt17",
            "MSMT17",
            ("msmt17", "MSMT17", "MSMT17_V1", "MSMT17_V2", "MSMT17_v1", "MSMT17_v2"),
            {"train": (1_041, 32_621), "query": (3_060, 11_659), "gallery": (3_060, 82_161)},
            "MSMT17 (Wei et al., CVPR 2018, arXiv 1711.08565) is given out on request by its authors, the PKU-VMC "
            "group at Peking University, against a signed release agreement",
            has_own_lists=True,
        ),
    )
}
"""Name -> entry, for data that has to be obtained."""


def default_data_root() -> Path:
    """`REIDKIT_DATA`, or `data` in the working folder."""
    return Path(os.environ.get("REIDKIT_DATA") or "data")


def cache_folder() -> Path:
    """`REIDKIT_CACHE`, or the user's cache folder of this platform."""
    return Path(os.environ.get("REIDKIT_CACHE") or platformdirs.user_cache_dir("reidkit"))


def load_dataset(target: str, data_root: Path | None = None, *, progress: Progress | None = None) -> ReIDDataset:
    """Load a data set by name or by folder.

    Args:
        target: A name of `SYNTHETIC` or `CATALOG`, a folder in Market-1501 layout, or the name of such a folder below
            the data root.
        data_root: Where data sets lie; None is `default_data_root()`.
        progress: Called with (done, total) while a synthetic set is generated, which happens once.

    Raises:
        DataError: The name is unknown, or the data cannot be found or read.
    """
    if target in SYNTHETIC:
        return _load_synthetic(target, progress)
    data_root = data_root or default_data_root()
    if target in CATALOG:
        entry = CATALOG[target]
        root = find_root(entry, data_root)
        if root is None:
            raise DataError(_not_found(entry, data_root))
        if entry.has_own_lists and not _is_market_layout(root):
            return load_msmt17(root, entry.name)
        return load_market(root, entry.name, entry.title if target == "market" else "re-organised, Market-1501 layout")
    for folder in (Path(target), data_root / target):
        if folder.is_dir():
            return load_market(_market_root(folder), folder.resolve().name)
    raise DataError(_unknown(target, data_root))


def find_root(entry: DatasetEntry, data_root: Path) -> Path | None:
    """The folder of a known data set below the data root (or the data root itself), or None."""
    for folder in [data_root / name for name in entry.folders] + [data_root]:
        for candidate in _descend(folder, _SEARCH_DEPTH if folder != data_root else 0):
            if _is_market_layout(candidate) or (entry.has_own_lists and (candidate / MSMT17_LISTS[0]).is_file()):
                return candidate
    return None


def synthetic_config(settings: Mapping[str, Any]) -> SyntheticConfig:
    """Check what to generate.

    Raises:
        ConfigError: A value is out of bounds.
    """
    try:
        return SyntheticConfig.model_validate(settings)
    except ValidationError as error:
        problems = (f"{problem['loc'][0]}={problem['input']!r}: {problem['msg']}" for problem in error.errors())
        raise ConfigError("; ".join(problems)) from None


def _load_synthetic(name: str, progress: Progress | None) -> ReIDDataset:
    config = SYNTHETIC[name]
    digest = hashlib.sha256(f"{FORMAT} {config.model_dump_json()}".encode()).hexdigest()[:8]
    folder = cache_folder() / "synthetic" / f"{name}-{digest}"
    make_synthetic(folder, config, progress=progress)
    return load_market(folder, name, f"generated, {config.style}, seed {config.seed}")


def _is_market_layout(folder: Path) -> bool:
    return (folder / MARKET_FOLDERS[0]).is_dir()


def _market_root(folder: Path) -> Path:
    """The folder in Market-1501 layout at or below a given one."""
    found = next((candidate for candidate in _descend(folder, _SEARCH_DEPTH) if _is_market_layout(candidate)), None)
    if found is None:
        raise DataError(
            f"{folder} is not in Market-1501 layout: neither it nor a folder in it holds {', '.join(MARKET_FOLDERS)}"
        )
    return found


def _descend(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, nearest first; hidden ones and archive leftovers are passed over."""
    level = [folder] if folder.is_dir() else []
    for remaining in range(depth, -1, -1):
        yield from level
        if remaining:
            level = [
                child
                for parent in level
                for child in sorted(parent.iterdir())
                if child.is_dir() and not child.name.startswith((".", "__"))
            ]


def _not_found(entry: DatasetEntry, data_root: Path) -> str:
    looked = ", ".join(str(data_root / name) for name in entry.folders)
    return (
        f"{entry.title} was not found; looked at {looked}. {entry.access}. Put it into {data_root / entry.folders[0]}, "
        f"or name the folder that holds it with --data-root or REIDKIT_DATA"
    )


def _unknown(target: str, data_root: Path) -> str:
    names = [*SYNTHETIC, *CATALOG]
    below = sorted(child.name for child in data_root.iterdir() if child.is_dir()) if data_root.is_dir() else []
    close = difflib.get_close_matches(target, [*names, *below], n=1)
    holds = ", ".join(below) or ("which holds no folder" if data_root.is_dir() else "which does not exist")
    return (
        f"unknown data set {target!r}{f' (did you mean {close[0]!r}?)' if close else ''}: neither a folder nor a known "
        f"name. Known are {', '.join(names)}; a folder in Market-1501 layout is taken by its path, or by its name "
        f"below the data root {data_root} ({holds})"
    )
