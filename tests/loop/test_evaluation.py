import numpy as np
import pytest

from reidkit.datasets import load_dataset
from reidkit.evaluation import evaluate_ranking
from reidkit.loop import Progress, build_model, create_fabric, evaluate_model, extract, read_split
from tests.tiny import tiny_config


def test_flipping_ranks_by_the_mean_of_both_sides(people: object) -> None:
    config = tiny_config(str(people), evaluation={"flip": True})
    dataset, fabric, progress = load_dataset(str(people)), create_fabric("cpu", "32"), Progress()
    model = build_model(config.backbone, 0)
    query, gallery = (
        read_split(split, name, (32, 16), strict=True, progress=progress)
        for name, split in (("query", dataset.query), ("gallery", dataset.gallery))
    )
    both = []
    for images in (query, gallery):
        views = [images, images._replace(pixels=np.ascontiguousarray(images.pixels[:][..., ::-1]))]
        mean = np.mean([extract(fabric, model, view, config, progress) for view in views], axis=0)
        both.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    expected = evaluate_ranking(
        *both,
        query_ids=query.split.identities,
        gallery_ids=gallery.split.identities,
        query_cameras=query.split.cameras,
        gallery_cameras=gallery.split.cameras,
    )
    scores, *_ = evaluate_model(fabric, model, query, gallery, config, progress)
    assert list(scores) == ["mAP", "rank1", "rank5", "rank10", "mINP"]
    assert scores["mAP"] == pytest.approx(100 * expected.mAP, abs=1e-4)
    assert scores["mINP"] == pytest.approx(100 * expected.mINP, abs=1e-4)
    assert scores["rank5"] == pytest.approx(100 * expected.cmc[4], abs=1e-4)
    plain, *_ = evaluate_model(fabric, model, query, gallery, tiny_config(str(people)), progress)
    assert scores["mAP"] != pytest.approx(plain["mAP"], abs=1e-4)
