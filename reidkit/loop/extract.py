"""Feature extraction: images to one (N, D) array."""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import normalise, prefetch
from reidkit.distributed import ProcessGroup
from reidkit.loop.images import ImageSet
from reidkit.loop.progress import Progress
from reidkit.runs import RunConfig

__all__ = ["extract"]


class _Batch(NamedTuple):
    rows: slice
    pixels: Tensor
    cameras: Tensor


def extract(
    fabric: Fabric,
    model: EmbeddingModel,
    images: ImageSet,
    config: RunConfig,
    progress: Progress,
    stage: str = "extract",
    *,
    rows: slice = slice(None),
    flip: bool = False,
) -> NDArray[np.float32]:
    """Retrieval features of images, in evaluation mode and without augmentation.

    While the device works on a batch, the next one is read (and decoded, where there is no store), and the features of
    the one before are copied back. Several processes work on a share each, and all end with all features.

    Args:
        fabric: Device and precision.
        model: The model; its training mode is restored.
        images: Images; their cameras reach a model with camera embeddings.
        config: Mean, standard deviation and batch size are taken from it.
        progress: Told of the images done.
        stage: What the progress calls it.
        rows: The N images that are meant, all by default.
        flip: The mean of the features of every image and of its mirror image.

    Returns:
        (N, D) float32, L2-normalised.
    """
    first, last, _ = rows.indices(len(images.pixels))
    group, count = ProcessGroup.of_fabric(fabric), last - first
    features = np.zeros((count, model.feature_dim), dtype=np.float32)
    own = range(*group.rows(count))
    mean, std = config.data.mean, config.data.std
    training = model.training
    model.eval()
    progress.begin(stage, len(own))

    def embed(pixels: Tensor, cameras: Tensor) -> Tensor:
        # float() waits for nothing; the copy to the host does, so it is put off by a batch.
        return model.embed(normalise(pixels, mean, std), cameras).float()

    def copy(batch: slice, embedded: list[Tensor]) -> None:
        features[batch] = embedded[0].cpu().numpy()
        if flip:
            features[batch] += embedded[1].cpu().numpy()
            features[batch] /= np.linalg.norm(features[batch], axis=1, keepdims=True)
        progress.advance(batch.stop - own.start)

    on_cuda = fabric.device.type == "cuda"
    batches = prefetch(_batches(images, first, own, config.evaluation.batch_size, pinned=on_cuda))
    with torch.inference_mode(), fabric.autocast(), closing(batches):
        pending = None
        for batch in batches:
            pixels = batch.pixels.to(fabric.device, non_blocking=True)
            cameras = batch.cameras.to(fabric.device, non_blocking=True)
            embedded = [embed(pixels, cameras)] + ([embed(pixels.flip(3), cameras)] if flip else [])
            if pending is not None:
                copy(*pending)
            pending = batch.rows, embedded
        if pending is not None:
            copy(*pending)
    model.train(training)
    return group.all_reduce(features)


def _batches(images: ImageSet, first: int, rows: range, size: int, *, pinned: bool) -> Iterator[_Batch]:
    """The images of `rows`, which are counted from the image `first`, in order."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        chosen = slice(first + part.start, first + part.stop)
        pixels = torch.from_numpy(np.array(images.pixels[chosen]))
        cameras = torch.from_numpy(images.split.cameras[chosen])
        yield _Batch(
            slice(part.start, part.stop),
            pixels.pin_memory() if pinned else pixels,
            cameras.pin_memory() if pinned else cameras,
        )
