"""A trained model as a function from images to features."""

import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

from reidkit.datasets import iterate_images, normalise, prefetch
from reidkit.errors import ConfigError, DataError
from reidkit.inference.pixels import Picture, is_one_picture, printable, read_pixels
from reidkit.loop import TrainedModel, create_fabric, load_model, place, resolve_precision
from reidkit.runs import Precision

__all__ = ["Embedded", "Embedder", "load"]


class Embedded(NamedTuple):
    """One batch of B images, of which R could be read."""

    features: NDArray[np.float32]
    """(R, D), L2-normalised."""
    readable: NDArray[np.bool_]
    """(B,) which images the rows belong to."""
    problems: list[str]
    """Why the others could not be read, one reason for each."""


def load(checkpoint: str | PathLike[str], *, device: str = "auto", precision: Precision = "auto") -> "Embedder":
    """Load a model to embed images with: `reidkit.load("runs/usl-market").embed(["a.jpg", "b.jpg"])`.

    Args:
        checkpoint: A run folder (its best model), one of its checkpoints, or a checkpoint of another project.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Arithmetic of the model: `auto`, `32`, `bf16` or `16`.

    Raises:
        CheckpointError: The file is missing, unreadable, unsafe or not of a known model.
        ConfigError: The device does not exist, or cannot compute in the precision.
    """
    return Embedder(load_model(Path(checkpoint)), device=device, precision=precision)


class Embedder:
    """Features of images, by the settings that a checkpoint carries: size, mean, standard deviation, mirroring.

    Args:
        trained: From `reidkit.loop.load_model`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `32`, `bf16` or `16`.
    """

    def __init__(self, trained: TrainedModel, *, device: str = "auto", precision: Precision = "auto") -> None:
        self._fabric = create_fabric(device, precision)
        self._model, self._config, self.checkpoint = trained
        self.precision = resolve_precision(self._fabric.device.type, precision)
        place(self._fabric, self._model)
        self._model.eval()
        self.image_size: tuple[int, int] = self._model.image_size
        """(H, W) in pixels that images are resized to."""
        self.feature_dim: int = self._model.feature_dim
        """D, the numbers of a feature."""
        self.sie_cameras: int = self._model.sie_cameras
        """Cameras that the model has an embedding for; 0 if it ignores cameras."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the checkpoint's file: equal where features can be compared."""
        with self.checkpoint.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def embed(
        self, images: Picture | Sequence[Picture], *, batch_size: int | None = None, cameras: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Features of images, whose inner products are cosine similarities.

        Args:
            images: One image or N: paths, Pillow images, arrays (H, W, 3) uint8, tensors (3, H, W) uint8 or floating
                point in [0, 1], in any mixture; or a batch, an array (N, H, W, 3) or a tensor (N, 3, H, W). RGB.
            batch_size: Images in a forward pass; None is the checkpoint's setting.
            cameras: (N,) camera of each image, -1 if unknown; None: all are unknown. Only models with camera
                embeddings use them.

        Returns:
            (N, D) float32, L2-normalised; N is 1 for one image.

        Raises:
            DataError: An image cannot be read, or is of another shape, type or range; cameras do not fit the images.
            ConfigError: `batch_size` is below 1, or the model knows no such camera.
        """
        pictures = [cast(Picture, images)] if is_one_picture(images) else list(cast(Sequence[Picture], images))
        features = np.empty((len(pictures), self.feature_dim), dtype=np.float32)
        done = 0
        for batch in self.stream(pictures, batch_size=batch_size, cameras=cameras):
            if batch.problems:
                unreadable = pictures[done + int(np.argmin(batch.readable))]
                name = printable(os.fsdecode(unreadable)) if isinstance(unreadable, str | PathLike) else "an image"
                raise DataError(f"{name} cannot be read ({batch.problems[0]}); repair it, or leave it out")
            features[done : done + len(batch.features)] = batch.features
            done += len(batch.features)
        return features

    def stream(
        self, images: Sequence[Picture], *, batch_size: int | None = None, cameras: ArrayLike | None = None
    ) -> Iterator[Embedded]:
        """Features of N images, batch by batch and in their order; other threads decode ahead of the model.

        Memory is that of a few batches, whatever N is. Arguments and errors are those of `embed`, but for images whose
        files cannot be read: they have a reason instead of a feature.
        """
        size = self._config.evaluation.batch_size if batch_size is None else batch_size
        if size < 1:
            raise ConfigError(f"batch_size={size} is below 1; 32 to 256 is usual")
        seen_by = np.full(len(images), -1) if cameras is None else np.asarray(cameras, dtype=np.int64)
        if seen_by.shape != (len(images),):
            raise DataError(f"cameras have shape {seen_by.shape}; needed are {len(images):,} of them, one per image")
        start = 0
        with closing(prefetch(self._read_batches(images, size))) as batches:
            for pixels, readable, problems in batches:
                stop = start + len(readable)
                features = self._embed_pixels(pixels, seen_by[start:stop][readable])
                yield Embedded(features, readable, problems)
                start = stop

    def _read_batches(
        self, images: Sequence[Picture], size: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]]:
        """Pixels (R, 3, H, W) of each batch, which of the B images they are, and why the others cannot be read."""
        decoded: Generator[NDArray[np.uint8] | str, None, None]
        if all(isinstance(image, str | PathLike) for image in images):  # read by several threads
            paths = [Path(cast(str, image)) for image in images]
            decoded = iterate_images(paths, self.image_size, max(1, (os.cpu_count() or 1) // 2))
        else:
            decoded = (read_pixels(image, self.image_size) for image in images)
        with closing(decoded):
            while batch := list(islice(decoded, size)):
                readable = np.array([not isinstance(image, str) for image in batch])
                pixels = np.array([image for image in batch if not isinstance(image, str)], dtype=np.uint8)
                problems = [image for image in batch if isinstance(image, str)]
                yield pixels.reshape(-1, 3, *self.image_size), readable, problems

    def _embed_pixels(self, pixels: NDArray[np.uint8], cameras: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, D) of (B, 3, H, W); with `evaluation.flip`, of the mean of an image and its mirror image."""
        if not len(pixels):
            return np.empty((0, self.feature_dim), dtype=np.float32)
        mean, std, device = self._config.data.mean, self._config.data.std, self._fabric.device
        with torch.inference_mode(), self._fabric.autocast():
            batch, seen_by = torch.from_numpy(pixels).to(device), torch.from_numpy(cameras).to(device)
            features = self._model.embed(normalise(batch, mean, std), seen_by)
            if self._config.evaluation.flip:
                mirrored = self._model.embed(normalise(batch.flip(3), mean, std), seen_by)
                features = functional.normalize(features + mirrored, dim=1)
            return cast(NDArray[np.float32], features.float().cpu().numpy())
