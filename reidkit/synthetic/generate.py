"""Writes the whole set: plans the images, renders them on several processes, puts the folder in place at once."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from itertools import accumulate
from multiprocessing import get_context
from operator import call
from pathlib import Path
from typing import NamedTuple

from reidkit.errors import ConfigError, DataError
from reidkit.synthetic.config import SyntheticConfig
from reidkit.synthetic.image import render_distractor, render_sighting
from reidkit.synthetic.randomness import stream

__all__ = ["FORMAT", "RECORD", "make_synthetic"]

FORMAT = 2
"""Version of the generator: sets of another version have other images."""

RECORD = "synthetic.json"
"""File with format and configuration, written last: a folder that holds it is complete."""

_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
_LEAST_CAMERAS = 3
_MOST_QUERIES = 4
_FRAMES_APART = 25

Progress = Callable[[int, int], None]


def make_synthetic(
    folder: Path,
    config: SyntheticConfig | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Generate pedestrians in Market-1501's layout; a set already there with the same configuration is kept.

    The images appear in `folder` all at once, when they are complete.

    Args:
        folder: The folder to make.
        config: Settings; None is the default set.
        workers: Processes to render on, >= 1; as many as there are processors if None. A script that asks for more than
            one must guard its main code with `if __name__ == "__main__":`, as for any process pool.
        progress: Called with (images made, images) from time to time.

    Raises:
        ConfigError: `workers` is below 1.
        DataError: The folder cannot be written or holds something else.
    """
    if workers is not None and workers < 1:
        raise ConfigError(
            f"workers={workers}: rendering needs at least one process; leave it out to use all processors"
        )
    config = config or SyntheticConfig()
    if _is_made(folder, config):
        return
    partial = folder.parent / f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        for name in (_TRAIN, _QUERY, _GALLERY):
            (partial / name).mkdir(parents=True)
        _render_all(partial, config, workers or os.cpu_count() or 1, progress)
        (partial / RECORD).write_text(
            json.dumps({"format": FORMAT, **config.model_dump()}, indent=2) + "\n", encoding="utf-8"
        )
        _put_in_place(partial, folder, config)
    except OSError as error:
        raise DataError(
            f"cannot write the synthetic set to {folder} ({error}); choose a folder that is writable"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_made(folder: Path, config: SyntheticConfig) -> bool:
    """Whether a folder holds the set; an error if it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise DataError(
            f"{folder} exists and is no synthetic set (no readable {RECORD}); choose another folder or remove it"
        )
    wanted = {"format": FORMAT, **config.model_dump()}
    if found != wanted:
        keys = [key for key in wanted | found if found.get(key) != wanted.get(key)]
        differences = ", ".join(f"{key}={found.get(key)} instead of {wanted.get(key)}" for key in keys)
        raise DataError(f"{folder} holds another synthetic set ({differences}); choose another folder or remove it")
    return True


def _put_in_place(partial: Path, folder: Path, config: SyntheticConfig) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not _is_made(folder, config):  # another process may have been first
            raise


def _render_all(folder: Path, config: SyntheticConfig, workers: int, progress: Progress | None) -> None:
    identities = range(1, config.train_identities + config.test_identities + 1)
    jobs = [partial(_render_identity, folder, config, identity) for identity in identities]
    jobs += [partial(_render_distractor, folder, config, number) for number in range(config.distractors)]
    images = sum(len(_sightings(config, identity)) for identity in identities) + config.distractors
    with closing(_results(jobs, workers)) as counts:
        for made in accumulate(counts):
            if progress is not None:
                progress(made, images)


def _results(jobs: Sequence[Callable[[], int]], workers: int) -> Generator[int, None, None]:
    """Results of calls, in order, on several processes."""
    if workers == 1:
        yield from map(call, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(call, jobs, chunksize=4)
        except BrokenProcessPool as error:
            raise DataError(
                "a process that rendered images died; if the calling script has no `if __name__ == '__main__':` guard, "
                "add one, or pass workers=1"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _render_distractor(folder: Path, config: SyntheticConfig, number: int) -> int:
    """Render and write one distractor; returns the number of images."""
    size = (config.height, config.width)
    camera, data = render_distractor(config.seed, config.style, number, config.cameras, size)
    (folder / _GALLERY / _name(0, camera, 1 + number % 3, _FRAMES_APART * number)).write_bytes(data)
    return 1


def _render_identity(folder: Path, config: SyntheticConfig, identity: int) -> int:
    """Render and write the images of one identity; returns their number."""
    size, sightings = (config.height, config.width), _sightings(config, identity)
    for sighting in sightings:
        data = render_sighting(config.seed, config.style, identity, sighting.camera, sighting.shot, size)
        name = _name(identity, sighting.camera, 1 + identity % 3, sighting.frame)
        (folder / sighting.split / name).write_bytes(data)
    return len(sightings)


class _Sighting(NamedTuple):
    """One image of an identity: where it belongs, camera, number in that camera and frame number."""

    split: str
    camera: int
    shot: int
    frame: int


def _sightings(config: SyntheticConfig, identity: int) -> list[_Sighting]:
    """The images of an identity; a test identity has one query in each of its first cameras besides."""
    rng = stream("visits", config.seed, config.style, identity)
    visits = int(rng.integers(min(_LEAST_CAMERAS, config.cameras), config.cameras + 1))
    cameras = rng.permutation(config.cameras)[:visits].tolist()
    starts = rng.integers(0, 900_000, visits).tolist()
    gallery = _TRAIN if identity <= config.train_identities else _GALLERY
    sightings = []
    for camera, start in zip(cameras, starts, strict=True):
        frames = range(start, start + _FRAMES_APART * config.images_per_camera, _FRAMES_APART)
        sightings += [_Sighting(gallery, camera, shot, frame) for shot, frame in enumerate(frames)]
    if gallery == _GALLERY:
        for camera, start in list(zip(cameras, starts, strict=True))[:_MOST_QUERIES]:
            shot = config.images_per_camera
            sightings.append(_Sighting(_QUERY, camera, shot, start + _FRAMES_APART * shot))
    return sightings


def _name(identity: int, camera: int, sequence: int, frame: int) -> str:
    """A file name in Market-1501's manner, cameras from 1."""
    return f"{identity:04d}_c{camera + 1}s{sequence}_{frame:06d}_01.jpg"
