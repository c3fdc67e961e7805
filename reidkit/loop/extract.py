"""Feature extraction: images to one (N, D) array."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import normalise
from reidkit.loop.config import RunConfig
from reidkit.loop.images import ImageSet
from reidkit.loop.progress import Progress

__all__ = ["extract"]


def extract(
    fabric: Fabric,
    model: EmbeddingModel,
    images: ImageSet,
    config: RunConfig,
    progress: Progress,
    stage: str = "extract",
) -> NDArray[np.float32]:
    """Retrieval features of all images, in evaluation mode and without augmentation.

    Args:
        fabric: Device and precision.
        model: The model; its training mode is restored.
        images: N images; their cameras reach a model with camera embeddings.
        config: Mean, standard deviation and batch size are taken from it.
        progress: Told of the images done.
        stage: What the progress calls it.

    Returns:
        (N, D) float32, L2-normalised.
    """
    pixels, cameras = images.pixels, images.split.cameras
    features = np.empty((len(pixels), model.feature_dim), dtype=np.float32)
    batch_size, mean, std = config.evaluation.batch_size, config.data.mean, config.data.std
    training = model.training
    model.eval()
    progress.begin(stage, len(pixels))
    with torch.inference_mode(), fabric.autocast():
        for start in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(pixels[start : start + batch_size]).to(fabric.device, non_blocking=True)
            seen_by = torch.from_numpy(cameras[start : start + batch_size]).to(fabric.device)
            embedded = model.embed(normalise(batch, mean, std), seen_by)
            features[start : start + len(embedded)] = embedded.float().cpu().numpy()
            progress.advance(min(start + batch_size, len(pixels)))
    model.train(training)
    return features
