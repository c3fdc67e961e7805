"""Evaluation of a model on query and gallery images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from reidkit.backbones import EmbeddingModel
from reidkit.datasets import Split, load_dataset
from reidkit.distributed import ProcessGroup
from reidkit.evaluation import RankingResult, evaluate_ranking, evaluate_reranked
from reidkit.loop.device import place
from reidkit.loop.extract import extract
from reidkit.loop.images import ImageSet, find_split, read_split
from reidkit.loop.labels import Features
from reidkit.loop.model import TrainedModel
from reidkit.loop.progress import SILENT, Progress
from reidkit.runs import RunConfig, Scores

__all__ = ["Benchmark", "Evaluation", "ModelScores", "evaluate_model", "evaluate_on"]

_LABELS = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")


class Benchmark(NamedTuple):
    """Images that a run is evaluated on."""

    ranked: tuple[ImageSet, ImageSet] | None
    """Query and gallery of every evaluation; None: nothing is evaluated."""
    others: Mapping[str, tuple[ImageSet, ImageSet]] = {}
    """Query and gallery of other data sets by name, evaluated at the run's end and before a stage that starts with a
    new optimiser: they show what UDA forgets of its source."""


class ModelScores(NamedTuple):
    """Scores of a model on query and gallery images, and what they were computed from."""

    scores: Scores
    """Empty where nothing was evaluated."""
    features: Sequence[Features] = ()
    """(Q, D) and (G, D); none where nothing was evaluated."""
    average_precisions: NDArray[np.float64] | None = None
    """(Q,) in [0, 1], NaN without a valid match; None where the gallery is drawn several times."""
    others: Mapping[str, Scores] = {}
    """Scores on other data sets by name."""


class Evaluation(NamedTuple):
    """Scores of a model on one data set."""

    dataset: str
    """Its name or folder, as it was asked for."""
    reranked: bool
    """Whether the rankings are re-ranked by k-reciprocal neighbours (Zhong et al., CVPR 2017; k1 = 20, k2 = 6,
    lambda = 0.3)."""
    scores: Scores


def evaluate_model(
    fabric: Fabric, model: EmbeddingModel, query: ImageSet, gallery: ImageSet, config: RunConfig, progress: Progress
) -> ModelScores:
    """Extract features and rank the gallery for each query; collective.

    Raises:
        EvaluationError: No query has a valid match.
    """
    group = ProcessGroup.of_fabric(fabric)
    features = [_retrieval_features(fabric, model, images, config, progress) for images in (query, gallery)]
    scores, precisions = (
        _scores(evaluate_ranking, features, query.split, gallery.split) if group.is_main else ({}, None)
    )
    return ModelScores(group.broadcast(scores), features, precisions)


def _scores(
    rank: Callable[..., RankingResult], features: Sequence[Features], query: Split, gallery: Split
) -> tuple[Scores, NDArray[np.float64] | None]:
    """Rank the features of queries (Q, D) and gallery (G, D) by `rank`.

    Where the gallery of a test is a random choice of its images, the mean over the choices that the data set made.
    """
    (queries, images), draws = features, (query.draws, gallery.draws)
    ids, cameras = (query.identities, gallery.identities), (query.cameras, gallery.cameras)
    if draws[0] is None or draws[1] is None:
        result = rank(queries, images, **dict(zip(_LABELS, (*ids, *cameras), strict=True)))
        return _metrics(result), result.average_precisions
    together, every_id, every_camera = (np.concatenate(pair) for pair in (features, ids, cameras))
    drawn: list[Scores] = []
    for chosen in np.concatenate([draws[0], draws[1]]).T:
        labels = (array[rows] for array in (every_id, every_camera) for rows in (~chosen, chosen))
        drawn.append(_metrics(rank(together[~chosen], together[chosen], **dict(zip(_LABELS, labels, strict=True)))))
    return {name: float(np.mean([scores[name] for scores in drawn])) for name in drawn[0]}, None


def _metrics(result: RankingResult) -> Scores:
    ranks = {f"rank{rank}": 100 * float(result.cmc[rank - 1]) for rank in (1, 5, 10)}
    return {"mAP": 100 * result.mAP, **ranks, "mINP": 100 * result.mINP}


def _retrieval_features(
    fabric: Fabric, model: EmbeddingModel, images: ImageSet, config: RunConfig, progress: Progress
) -> Features:
    return extract(fabric, model, images, config, progress, "evaluate", flip=config.evaluation.flip)


def evaluate_on(
    fabric: Fabric,
    trained: TrainedModel,
    targets: Sequence[str],
    *,
    data_root: Path | None = None,
    cameras: bool = True,
    strict: bool = False,
    rerank: bool = False,
    progress: Progress = SILENT,
) -> list[Evaluation]:
    """Scores of a trained model on each of several data sets, in their order.

    Args:
        fabric: Device and precision.
        trained: From `load_model`.
        targets: Names or folders.
        data_root: Where data sets lie.
        cameras: Use camera ids; without them no same-camera image is left out.
        strict: Stop at the first unreadable image.
        rerank: Score each data set's re-ranked rankings too, right after the plain ones.
        progress: Shows the images done.

    Raises:
        DataError: A data set cannot be found or read.
        EvaluationError: No query has a valid match.
    """
    model, config, _ = trained
    place(fabric, model)
    evaluations = []
    for target in targets:
        dataset = load_dataset(target, data_root)
        if not (cameras and config.data.cameras):
            dataset = dataset.without_cameras()
        query, gallery = (
            read_split(find_split(dataset, name), name, model.image_size, strict=strict, progress=progress)
            for name in ("query", "gallery")
        )
        features = [_retrieval_features(fabric, model, images, config, progress) for images in (query, gallery)]
        splits = query.split, gallery.split
        evaluations.append(Evaluation(target, False, _scores(evaluate_ranking, features, *splits)[0]))
        if rerank:
            progress.begin(f"re-rank {target}", 1)
            evaluations.append(Evaluation(target, True, _scores(evaluate_reranked, features, *splits)[0]))
    return evaluations
