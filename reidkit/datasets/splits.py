"""Loaded data sets: three splits of image paths, identities and cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DISTRACTOR", "JUNK", "UNKNOWN", "ReIDDataset", "Split", "make_split"]

UNKNOWN = -1
"""The camera, or the identity of a training image, is not known."""
JUNK = -1
"""The identity of gallery images that take no part in an evaluation."""
DISTRACTOR = 0
"""The identity of gallery images that match no query."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images of one split, their identities and cameras."""

    paths: tuple[Path, ...]
    """N image files."""
    identities: NDArray[np.int64]
    """(N,) identities; in a training split 0..C-1, in query and gallery as in the files; -1 is unknown."""
    cameras: NDArray[np.int64]
    """(N,) 0-based camera ids; -1 is unknown."""
    originals: NDArray[np.int64] | None = None
    """(C,) identities in the files of 0..C-1, ascending; None where they are not renumbered."""
    draws: NDArray[np.bool_] | None = None
    """(N, T) for a test that is scored over T random choices of the gallery, and averaged: whether an image of query or
    gallery is in the gallery of each choice. The splits are those of the first choice. None: they are fixed."""

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, kept: NDArray[np.bool_]) -> "Split":
        """The images where `kept` (N,) is true."""
        paths = tuple(path for path, keep in zip(self.paths, kept, strict=True) if keep)
        draws = None if self.draws is None else self.draws[kept]
        return Split(paths, self.identities[kept], self.cameras[kept], self.originals, draws)

    def since(self, start: int) -> "Split":
        """The images from number `start` on."""
        return Split(self.paths[start:], self.identities[start:], self.cameras[start:])

    def without_cameras(self) -> "Split":
        """The same images, every camera unknown."""
        return replace(self, cameras=np.full(len(self), UNKNOWN, dtype=np.int64))

    @property
    def identity_count(self) -> int:
        """Number of different known identities, distractors (0 in query and gallery) included."""
        return len(np.unique(self.identities[self.identities != UNKNOWN]))

    @property
    def camera_count(self) -> int:
        """Number of different known cameras."""
        return len(np.unique(self.cameras[self.cameras != UNKNOWN]))


@dataclass(frozen=True, slots=True)
class ReIDDataset:
    """A data set as found on the disk."""

    name: str
    root: Path
    version: str
    """Layout or release, in words: results differ between releases."""
    train: Split
    query: Split
    gallery: Split
    comparable: bool = True
    """Whether an identity has the same number in training as in query and gallery."""

    def is_person(self, identities: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which identities of query and gallery (N,) are persons: not junk, and no distractors.

        Distractors are 0, except in sets that have a query of this number and count persons from 0 (MSMT17).
        """
        counts_from = 0 if (self.query.identities == DISTRACTOR).any() else DISTRACTOR + 1
        return identities >= counts_from

    def without_cameras(self) -> "ReIDDataset":
        """The same data set, every camera unknown: evaluation then leaves out no same-camera images."""
        train, query, gallery = (split.without_cameras() for split in (self.train, self.query, self.gallery))
        return replace(self, train=train, query=query, gallery=gallery)


def make_split(entries: Sequence[tuple[Path, int, int]], *, relabel: bool = False) -> Split:
    """Build a split from (path, identity, camera) rows; `relabel` maps sorted known identities to 0..C-1."""
    identities = np.array([identity for _, identity, _ in entries], dtype=np.int64)
    cameras = np.array([camera for *_, camera in entries], dtype=np.int64)
    known = None
    if relabel:
        known = np.unique(identities[identities != UNKNOWN])
        identities = np.where(identities == UNKNOWN, UNKNOWN, np.searchsorted(known, identities))
    return Split(tuple(path for path, *_ in entries), identities, cameras, known)
