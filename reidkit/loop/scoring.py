"""Evaluation of a model on query and gallery images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import load_dataset
from reidkit.evaluation import evaluate_ranking
from reidkit.loop.config import RunConfig
from reidkit.loop.device import place
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet, read_split
from reidkit.loop.model import TrainedModel
from reidkit.loop.progress import Progress
from reidkit.loop.pseudo_labels import Features

__all__ = ["Scores", "evaluate_model", "evaluate_on"]

Scores = dict[str, float]
"""`mAP`, `rank1`, `rank5`, `rank10` in per cent."""


def evaluate_model(
    fabric: Fabric, model: EmbeddingModel, query: ImageSet, gallery: ImageSet, config: RunConfig, progress: Progress
) -> Scores:
    """MAP and Rank-1, 5, 10 in per cent.

    Raises:
        EvaluationError: No query has a valid match.
    """
    features = [_retrieval_features(fabric, model, images, config, progress) for images in (query, gallery)]
    result = evaluate_ranking(
        *features,
        query_ids=query.split.identities,
        gallery_ids=gallery.split.identities,
        query_cameras=query.split.cameras,
        gallery_cameras=gallery.split.cameras,
    )
    ranks = {f"rank{rank}": 100 * float(result.cmc[rank - 1]) for rank in (1, 5, 10)}
    return {"mAP": 100 * result.mAP, **ranks}


def _retrieval_features(
    fabric: Fabric, model: EmbeddingModel, images: ImageSet, config: RunConfig, progress: Progress
) -> Features:
    features = extract(fabric, model, images.pixels, config, progress, "evaluate")
    if config.evaluation.flip:
        mirrored = np.ascontiguousarray(images.pixels[..., ::-1])
        features += extract(fabric, model, mirrored, config, progress, "evaluate")
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def evaluate_on(
    fabric: Fabric,
    trained: TrainedModel,
    targets: Sequence[str],
    *,
    data_root: Path | None = None,
    cameras: bool = True,
    strict: bool = False,
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """Scores of a trained model on each of several data sets.

    Args:
        fabric: Device and precision.
        trained: From `load_model`.
        targets: Names or folders.
        data_root: Where data sets lie.
        cameras: Use camera ids; without them no same-camera image is left out.
        strict: Stop at the first unreadable image.
        progress: Told of the images done.

    Raises:
        DataError: A data set cannot be found or read.
        EvaluationError: No query has a valid match.
    """
    progress = progress or Progress()
    model, config, _ = trained
    place(fabric, model)
    scores = {}
    for target in targets:
        dataset = load_dataset(target, data_root)
        if not (cameras and config.data.cameras):
            dataset = dataset.without_cameras()
        query, gallery = (
            read_split(split, name, model.image_size, strict=strict, progress=progress)
            for name, split in (("query", dataset.query), ("gallery", dataset.gallery))
        )
        scores[target] = evaluate_model(fabric, model, query, gallery, config, progress)
    return scores
