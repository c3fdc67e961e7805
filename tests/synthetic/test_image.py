from io import BytesIO

import numpy as np
from PIL import Image

from reidkit.synthetic.image import render_distractor, render_sighting

SIZE = (64, 32)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data))).astype(float)


def test_an_image_depends_on_its_own_key_alone() -> None:
    first = render_sighting(0, "summer", 3, 1, 2, SIZE)
    render_sighting(0, "summer", 4, 1, 0, SIZE)
    assert render_sighting(0, "summer", 3, 1, 2, SIZE) == first
    others = [
        render_sighting(1, "summer", 3, 1, 2, SIZE),
        render_sighting(0, "winter", 3, 1, 2, SIZE),
        render_sighting(0, "summer", 4, 1, 2, SIZE),
        render_sighting(0, "summer", 3, 0, 2, SIZE),
        render_sighting(0, "summer", 3, 1, 1, SIZE),
    ]
    assert len({first, *others}) == 6


def test_an_image_has_the_wanted_size() -> None:
    for size in ((64, 32), (128, 64), (100, 90), (32, 16)):
        image = Image.open(BytesIO(render_sighting(0, "summer", 1, 0, 0, size)))
        assert (image.height, image.width) == size
        assert image.mode == "RGB"


def test_images_of_one_visit_share_clothes_and_light_but_not_the_pose() -> None:
    shots = np.stack([decoded(render_sighting(0, "summer", 5, 0, shot, SIZE)) for shot in range(4)])
    other = decoded(render_sighting(0, "summer", 8, 0, 0, SIZE))
    torso = shots[:, 18:30, 12:20].mean(axis=(1, 2))
    assert np.abs(torso[1:] - torso[0]).max() < np.abs(other[18:30, 12:20].mean(axis=(0, 1)) - torso[0]).max()
    assert np.abs(shots[1:] - shots[0]).mean() > 4


def test_distractors_come_from_all_cameras_and_differ() -> None:
    drawn = [render_distractor(0, "summer", number, 3, SIZE) for number in range(20)]
    assert {camera for camera, _ in drawn} == {0, 1, 2}
    assert len({data for _, data in drawn}) == 20
    assert render_distractor(0, "summer", 7, 3, SIZE) == drawn[7]
