from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.datasets import sample_batches
from reidkit.errors import TrainingError


def draw(labels: list[int], cameras: list[int], p: int, k: int, batches: int, seed: int = 0) -> list[NDArray[np.int64]]:
    return list(
        sample_batches(
            np.array(labels),
            np.array(cameras),
            clusters_per_batch=p,
            instances=k,
            batches=batches,
            rng=np.random.default_rng(seed),
        )
    )


def test_batches_are_p_different_clusters_of_k_images_without_noise() -> None:
    labels = [-1, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, -1]
    for batch in draw(labels, [0] * 14, p=3, k=2, batches=20):
        chosen = np.array(labels)[batch].reshape(3, 2)
        assert (chosen >= 0).all()
        assert (chosen[:, 0] == chosen[:, 1]).all()
        assert len(set(chosen[:, 0])) == 3
        assert len(set(batch.tolist())) == 6  # enough images: no repeats


def test_clusters_are_seen_equally_often() -> None:
    labels = np.repeat(np.arange(10), 4).tolist()
    seen = Counter(
        int(labels[index]) for batch in draw(labels, [0] * 40, p=3, k=4, batches=100) for index in batch[::4]
    )
    assert max(seen.values()) - min(seen.values()) <= 1


def test_companions_come_from_other_cameras() -> None:
    labels, cameras = [0] * 8, [0, 0, 0, 0, 1, 1, 2, 2]
    for anchor, *companions in draw(labels, cameras, p=1, k=4, batches=50):
        assert all(cameras[image] != cameras[anchor] for image in companions)


def test_one_camera_gives_other_images_of_the_cluster() -> None:
    for batch in draw([0] * 5, [3] * 5, p=1, k=4, batches=50):
        assert len(set(batch.tolist())) == 4


def test_too_few_images_are_drawn_with_replacement() -> None:
    (batch,) = draw([0, 0], [0, 1], p=1, k=6, batches=1)
    assert len(batch) == 6
    assert set(batch.tolist()) == {0, 1}


def test_a_cluster_of_one_image_is_that_image_k_times() -> None:
    (batch,) = draw([0, 1, 1], [0, 0, 1], p=2, k=3, batches=1)
    assert Counter(batch.tolist())[0] == 3


def test_fewer_clusters_than_p_make_a_smaller_batch() -> None:
    (batch,) = draw([0, 0, 1, 1], [0, 1, 0, 1], p=8, k=2, batches=1)
    assert len(batch) == 4


def test_the_seed_decides_everything() -> None:
    labels, cameras = np.repeat(np.arange(10), 4).tolist(), [0, 1] * 20
    first, second = (np.concatenate(draw(labels, cameras, 4, 4, 30, seed=5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, np.concatenate(draw(labels, cameras, 4, 4, 30, seed=6)))


def test_all_noise_is_a_clear_error() -> None:
    with pytest.raises(TrainingError, match="all 3 images are noise"):
        draw([-1, -1, -1], [0, 0, 0], p=2, k=2, batches=1)
