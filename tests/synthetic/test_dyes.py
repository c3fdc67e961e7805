import numpy as np

from reidkit.synthetic.dyes import black_or_white, contrasting, dye, hair_color, skin_color, weighted


def test_weights_are_frequencies() -> None:
    rng = np.random.default_rng(0)
    drawn = [weighted(rng, {"a": 3, "b": 1, "never": 0}) for _ in range(4000)]
    assert "never" not in drawn
    assert abs(drawn.count("a") / 4000 - 0.75) < 0.03


def test_colors_are_linear_rgb() -> None:
    rng = np.random.default_rng(0)
    colors = [dye(rng, "upper") for _ in range(200)] + [skin_color(rng), hair_color(rng)]
    assert np.min(colors) > 0
    assert np.max(colors) < 1
    assert np.std(np.array(colors)[:, 0] - np.array(colors)[:, 2]) > 0.1


def test_contrasting_colors_are_far_apart() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        first = dye(rng, "lower")
        second = contrasting(rng, "lower", first)
        assert np.abs(np.sqrt(first) - np.sqrt(second)).sum() > 0.3


def test_black_or_white() -> None:
    rng = np.random.default_rng(0)
    light = [np.mean(black_or_white(rng, 0.8)) > 0.4 for _ in range(500)]
    assert 0.7 < np.mean(light) < 0.9
