import numpy as np

from reidkit.synthetic.props import draw_occluder
from reidkit.synthetic.raster import Canvas


def test_occluders_stand_in_front_of_the_person_and_hide_a_part() -> None:
    shares = []
    for seed in range(40):
        canvas = Canvas(height=128, width=64, scale=66.0, origin=(32.0, 122.0))
        draw_occluder(canvas, 0.3, np.random.default_rng(seed))
        shares.append(canvas.mask.mean())
        if canvas.mask.any():
            assert canvas.depth[canvas.mask].min() > 0.2
    assert np.mean(np.array(shares) > 0.01) > 0.8
    assert max(shares) < 0.6
    assert len(set(shares)) > 20
