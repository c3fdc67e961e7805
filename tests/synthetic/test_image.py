import hashlib
from io import BytesIO

import numpy as np
import PIL
import pytest
from PIL import Image

from reidkit.synthetic.config import Style
from reidkit.synthetic.image import render_distractor, render_sighting

SIZE = (64, 32)
STYLES: tuple[Style, ...] = ("summer", "winter")


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


RECORDED_WITH = "numpy 2.4.6, Pillow 13.0.0, X86_V4"


def test_the_bytes_of_twenty_images_are_those_recorded() -> None:
    """Other versions, and the vector units of other processors, round some pixels differently."""
    introspect = pytest.importorskip("numpy.lib.introspect")
    (units,) = introspect.opt_func_info(func_name="^sin$", signature="float32").values()
    here = f"numpy {np.__version__}, Pillow {PIL.__version__}, {units['ff']['current']}"
    if here != RECORDED_WITH:
        pytest.skip(f"the digest was recorded with {RECORDED_WITH}; this is {here}")
    digest = hashlib.sha256()
    for style in STYLES:
        for number in range(1, 8):
            digest.update(render_sighting(number % 3, style, 7 * number, number % 6, number % 4, (128, 64)))
        for number in range(3):
            digest.update(render_distractor(0, style, number, 6, (128, 64))[1])
    assert digest.hexdigest() == "2a84871f949f796e1245f5210805df98f8644751b6127a05d813fe657d100213"
