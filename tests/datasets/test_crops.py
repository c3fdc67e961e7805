import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from reidkit.datasets.crops import CropConfig, CropParameters, apply_crops, draw_crops

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
UNIT: dict[str, tuple[float, float, float]] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
OFF: dict[str, Any] = {"flip": 0, "jitter": 0, "grey": 0, "global_blur": (0, 0), "local_blur": 0, "solarise": (0, 0)}
WHOLE: dict[str, Any] = {"global_scale": (1.0, 1.0), "stretch": (1.0, 1.0), "local_crops": 0}
EVERYTHING = CropConfig(
    local_crops=3, jitter=0.9, saturation=0.5, hue=0.5, grey=0.3, global_blur=(1, 0.3), solarise=(0.5, 0.5)
)


def pixels(batch: int = 5, height: int = 24, width: int = 12) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def multi_crop(images: Tensor, seed: int, config: CropConfig) -> tuple[Tensor, Tensor]:
    """Global and local views."""
    whole, local = draw_crops(len(images), (images.shape[2], images.shape[3]), np.random.default_rng(seed), config)
    return apply_crops(images, whole, mean=MEAN, std=STD), apply_crops(images, local, mean=MEAN, std=STD)


def one_by_one(images: Tensor, drawn: CropParameters) -> Tensor:
    """The same views, image by image, with torchvision's operations on floats."""
    colours = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    result = torch.empty(*drawn.flip.shape, 3, *drawn.size)
    for view, index in np.ndindex(*drawn.flip.shape):
        box, sigma = drawn.box[view, index].tolist(), float(drawn.sigma[view, index])
        shown = images[index].float() / 255
        shown = tv.resized_crop(shown, *box, list(drawn.size), InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        shown = tv.horizontal_flip(shown) if drawn.flip[view, index] else shown
        for operation in drawn.order[view]:
            shown = colours[operation](shown, float(drawn.factors[operation, view, index]))
        shown = tv.rgb_to_grayscale(shown, 3) if drawn.grey[view, index] else shown
        if sigma:
            shown = tv.gaussian_blur(shown, [2 * math.floor(3 * sigma) + 1] * 2, [sigma] * 2)
        shown = tv.solarize(shown, 128 / 255) if drawn.solarise[view, index] else shown
        result[view, index] = tv.normalize(shown, list(MEAN), list(STD))
    return result


@pytest.mark.parametrize("sizes", [((24, 16), (12, 8)), ((31, 17), (14, 20))], ids=["person-shaped", "odd"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_torchvision_image_by_image(seed: int, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    images = pixels(6, 40, 24)
    config = EVERYTHING.model_copy(update={"global_size": sizes[0], "local_size": sizes[1]})
    for drawn in draw_crops(6, (40, 24), np.random.default_rng(seed), config):
        found = apply_crops(images, drawn, mean=MEAN, std=STD)
        expected = one_by_one(images, drawn)
        # Inverting jumps at its threshold, from which an error of rounding may part a value.
        same = (found - expected).abs() < 1e-3
        jumps = torch.from_numpy(drawn.solarise)[:, :, None, None, None] & ~same
        assert (same | jumps).all()
        assert jumps.float().mean() < 1e-3


def drawn_box(box: list[int], size: tuple[int, int], flip: bool = False) -> CropParameters:
    """One view of one image, cut and resized but not coloured."""
    no = np.zeros((1, 1), np.bool_)
    factors = np.array([1, 1, 1, 0], np.float32).reshape(4, 1, 1)
    order = np.arange(4)[None]
    return CropParameters(size, np.array([[box]]), no | flip, order, factors, no, np.zeros((1, 1), np.float32), no)


@pytest.mark.parametrize("size", [(16, 8), (30, 17), (5, 9), (1, 3)])
@pytest.mark.parametrize("box", [[0, 0, 24, 12], [3, 2, 7, 5], [10, 0, 14, 12], [23, 11, 1, 1]])
@pytest.mark.parametrize("flip", [False, True])
def test_boxes_are_resized_as_torchvision_does(size: tuple[int, int], box: list[int], flip: bool) -> None:
    drawn, images = drawn_box(box, size, flip), pixels(1)
    expected = tv.resized_crop(images[0].float() / 255, *box, list(size), InterpolationMode.BICUBIC, antialias=True)
    expected = (tv.horizontal_flip(expected) if flip else expected).clamp(0, 1)
    torch.testing.assert_close(apply_crops(images, drawn, **UNIT)[0, 0], expected, atol=1e-5, rtol=0)
    # Bytes are rounded, and clamped where the cubic overshoots, after each direction: hence the softer image.
    soft = images // 2 + 64
    rounded = tv.resized_crop(soft[0], *box, list(size), InterpolationMode.BICUBIC, antialias=True)
    rounded = tv.horizontal_flip(rounded) if flip else rounded
    torch.testing.assert_close(apply_crops(soft, drawn, **UNIT)[0, 0], rounded / 255, atol=2 / 255, rtol=0)


def test_hue_of_every_order_of_channels_and_of_ties() -> None:
    levels = torch.tensor([0, 51, 128, 255], dtype=torch.uint8)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 8, 8)
    for turn in np.linspace(-0.5, 0.5, 21, dtype=np.float32).tolist():
        drawn = drawn_box([0, 0, 8, 8], (8, 8))
        drawn.factors[3] = turn
        expected = tv.adjust_hue(colours[0] / 255, turn)
        torch.testing.assert_close(apply_crops(colours, drawn, **UNIT)[0, 0], expected, atol=1e-5, rtol=0)


def test_a_view_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(9)
    drawn = draw_crops(9, (24, 12), np.random.default_rng(0), EVERYTHING)
    at_once = [apply_crops(images, views, mean=MEAN, std=STD) for views in drawn]
    monkeypatch.setattr("reidkit.datasets.crops._PIECE", 3 * 24 * 12 * 2)
    for views, expected in zip(drawn, at_once, strict=True):
        torch.testing.assert_close(apply_crops(images, views, mean=MEAN, std=STD), expected, atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_a_gpu_shows_the_same_views() -> None:
    images = pixels(9, 64, 32)
    for views in draw_crops(9, (64, 32), np.random.default_rng(0), EVERYTHING.model_copy(update={"solarise": (0, 0)})):
        expected = apply_crops(images, views, mean=MEAN, std=STD)
        found = apply_crops(images.cuda(), views, mean=MEAN, std=STD)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)


def shapes(boxes: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    top, left, height, width = boxes.T.astype(np.float64)
    return {"area": height * width, "aspect": width / height, "top": top, "left": left}


@pytest.mark.parametrize(
    ("shape", "size", "kind"),
    [((256, 128), (256, 128), 0), ((256, 128), (128, 64), 1), ((100, 100), (128, 64), 0), ((64, 64), (64, 64), 1)],
)
def test_boxes_are_spread_as_torchvisions(shape: tuple[int, int], size: tuple[int, int], kind: int) -> None:
    config = CropConfig(global_size=size, local_size=size, local_crops=2)
    found = draw_crops(2000, shape, np.random.default_rng(0), config)[kind].box.reshape(-1, 4)
    aspect = size[1] / size[0]
    peer = v2.RandomResizedCrop(
        list(size),
        scale=(config.global_scale, config.local_scale)[kind],
        ratio=(aspect * config.stretch[0], aspect * config.stretch[1]),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [peer.make_params([torch.empty(3, *shape)]) for _ in range(4000)]
    expected = np.array([[item[name] for name in ("top", "left", "height", "width")] for item in drawn])
    theirs = shapes(expected)
    for name, ours in shapes(found).items():
        assert ks_2samp(ours, theirs[name]).pvalue > 1e-3, name
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] >= 1).all()
    assert (found[:, :2] + found[:, 2:] <= shape).all()


@pytest.mark.parametrize(
    ("shape", "size", "stretch", "expected"),
    [
        ((64, 64), (128, 64), (1.0, 1.0), [0, 16, 64, 32]),
        ((90, 20), (128, 64), (0.8, 1.25), [20, 0, 50, 20]),
        ((66, 30), (64, 32), (0.75, 1.25), [0, 0, 66, 30]),
    ],
    ids=["wide", "high", "alike"],
)
def test_where_no_box_fits_it_is_the_middle_of_the_image(
    shape: tuple[int, int], size: tuple[int, int], stretch: tuple[float, float], expected: list[int]
) -> None:
    # An area of the whole image fits at no other shape than the image's own, which a draw never hits.
    config = CropConfig(global_size=size, global_scale=(1.0, 1.0), stretch=stretch, local_crops=0)
    boxes = draw_crops(50, shape, np.random.default_rng(0), config)[0].box.reshape(-1, 4)
    assert expected in boxes.tolist()
    assert (boxes[:, 2:] <= shape).all()


def test_changes_come_as_often_and_as_strong_as_asked() -> None:
    whole, local = draw_crops(4000, (24, 12), np.random.default_rng(0), CropConfig())

    def share(changed: NDArray[Any]) -> list[float]:
        return [round(float(value), 2) for value in np.atleast_1d(changed.mean(-1))]

    for drawn in (whole, local):
        assert share(drawn.flip) == pytest.approx([0.5] * len(drawn.flip), abs=0.03)
        assert share(drawn.grey) == pytest.approx([0.2] * len(drawn.flip), abs=0.03)
        for factors, neutral, strength in zip(drawn.factors, (1, 1, 1, 0), (0.4, 0.4, 0.2, 0.1), strict=True):
            assert share(factors != neutral) == pytest.approx([0.8] * len(drawn.flip), abs=0.03)
            offsets = factors[factors != neutral] - neutral
            assert ks_2samp(offsets, np.linspace(-strength, strength, 10_000)).pvalue > 1e-3
        sigma = drawn.sigma[drawn.sigma > 0]
        assert ks_2samp(sigma, np.linspace(0.1, 2.0, 10_000)).pvalue > 1e-3
    assert share(whole.sigma > 0) == pytest.approx([1, 0.1], abs=0.03)
    assert share(local.sigma > 0) == pytest.approx([0.5] * 8, abs=0.03)
    assert share(whole.solarise) == pytest.approx([0, 0.2], abs=0.03)
    assert not local.solarise.any()


def test_every_order_of_the_colours_comes() -> None:
    config = CropConfig(local_crops=500)
    orders = draw_crops(1, (24, 12), np.random.default_rng(0), config)[1].order
    found, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(found) == 24
    assert counts.max() < 3 * counts.min()


def test_parameters_of_views_are_independent() -> None:
    local = draw_crops(4000, (256, 128), np.random.default_rng(0), CropConfig())[1]
    columns = [local.box[..., 2], local.flip, local.factors[0], local.grey, local.sigma > 0]
    for one, other in pairwise(np.stack([column.astype(np.float64) for column in columns])):
        for first, second in ((one[0], one[1]), (one[0], other[0])):
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_views_have_their_sizes_and_follow_from_the_seed() -> None:
    images = pixels()
    before = images.clone()
    config = CropConfig(local_crops=3)
    first, again, other = (multi_crop(images, seed, config) for seed in (1, 1, 2))
    assert first[0].shape == (2, 5, 3, 24, 12)
    assert first[1].shape == (3, 5, 3, 12, 6)
    assert all(view.dtype == torch.float32 for view in first)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][1])
    assert torch.equal(images, before)


def test_sizes_follow_the_models_unless_set() -> None:
    assert CropConfig().sizes(256, 128) == ((256, 128), (128, 64))
    assert CropConfig(global_size=(64, 48)).sizes(256, 128) == ((64, 48), (32, 24))
    assert CropConfig(local_size=(96, 48)).sizes(256, 128) == ((256, 128), (96, 48))
    assert CropConfig().sizes(1, 1) == ((1, 1), (1, 1))


def test_no_local_views_and_no_images_may_be_asked_for() -> None:
    whole, local = multi_crop(pixels(), 0, CropConfig(local_crops=0))
    assert (len(whole), local.shape) == (2, (0, 5, 3, 12, 6))
    assert multi_crop(pixels(0), 0, CropConfig())[1].shape == (8, 0, 3, 12, 6)


def test_without_changes_a_whole_view_is_the_normalised_image() -> None:
    views, _ = multi_crop(pixels(), 0, CropConfig(**OFF, **WHOLE))
    expected = tv.normalize(pixels() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(views, expected.expand(2, -1, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("setting", ["global_scale", "stretch", "blur_sigma"])
def test_ranges_begin_with_the_smallest(setting: str) -> None:
    with pytest.raises(ValidationError, match=r"0.9, 0.5: the smallest comes first; swap them"):
        CropConfig.model_validate({setting: (0.9, 0.5)})
