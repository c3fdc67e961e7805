import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torchvision.transforms.v2 import functional as tv

from reidkit.datasets import AugmentationConfig, normalise
from reidkit.datasets.augmentation import (
    AugmentationParameters,
    _crop_and_flip,
    _erase,
    _erase_by_mask,
    _gather_crops,
    apply_augmentation,
    draw_augmentation,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
EVERYTHING = AugmentationConfig(pad=3, brightness=0.3, contrast=0.3, saturation=0.3, colour_cast=0.2, erasing=0.7)
NOISE = EVERYTHING.model_copy(update={"erasing_fill": "noise"})
NOTHING = AugmentationConfig(flip=0, pad=0, erasing=0)


def pixels(batch: int = 6, height: int = 12, width: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def augment(
    images: torch.Tensor,
    seed: int,
    config: AugmentationConfig,
    *,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
) -> torch.Tensor:
    size = images.shape[2], images.shape[3]
    drawn = draw_augmentation(len(images), size, np.random.default_rng(seed), config)
    return apply_augmentation(images, drawn, config, mean=mean, std=std)


def one_by_one(images: torch.Tensor, drawn: AugmentationParameters, config: AugmentationConfig) -> torch.Tensor:
    """The same augmentation, image by image, with torchvision's operations."""
    results, noise = [], drawn.noise
    for index, image in enumerate(images):
        shown = tv.horizontal_flip(image) if drawn.flip[index] else image
        shown = tv.pad(shown, [config.pad] * 4)
        top, left = (int(value) for value in drawn.offset[index])
        shown = tv.crop(shown, top, left, *image.shape[1:]).float() / 255
        shown = (shown * torch.from_numpy(drawn.gain[index])[:, None, None]).clamp(0, 1)
        shown = tv.adjust_contrast(shown, float(drawn.contrast[index]))
        shown = tv.adjust_saturation(shown, float(drawn.saturation[index]))
        shown = tv.normalize(shown, list(MEAN), list(STD))
        height, width = (int(side) for side in drawn.box[index, 2:])
        if config.erasing_fill == "noise":
            fill = torch.from_numpy(noise[: 3 * height * width]).reshape(3, height, width)
            noise = noise[3 * height * width :]
        else:
            fill = torch.tensor(config.erasing_fill)[:, None, None]
        results.append(tv.erase(shown, *(int(value) for value in drawn.box[index]), fill))
    assert len(noise) == 0
    return torch.stack(results)


@pytest.mark.parametrize("config", [EVERYTHING, NOISE], ids=["colour", "noise"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_torchvision_image_by_image(seed: int, config: AugmentationConfig) -> None:
    images = pixels()
    drawn = draw_augmentation(6, (12, 8), np.random.default_rng(seed), config)
    result = apply_augmentation(images, drawn, config, mean=MEAN, std=STD)
    torch.testing.assert_close(result, one_by_one(images, drawn, config), atol=2e-5, rtol=0)


def sampled(image: torch.Tensor, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The image (3, H, W) read through a matrix, pixel by pixel."""
    values = np.pad(image.double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    _, height, width = image.shape
    result = np.empty(image.shape)
    for i in range(height):
        for j in range(width):
            x, y = matrix.astype(np.float64) @ [j + 0.5 - width / 2, i + 0.5 - height / 2]
            column, row = x + width / 2 + 0.5, y + height / 2 + 0.5  # in the padded image
            column, row = min(max(column, 1), width), min(max(row, 1), height)
            left, top = min(int(column), width - 1), min(int(row), height - 1)
            right, bottom = column - left, row - top
            result[:, i, j] = (1 - bottom) * ((1 - right) * values[:, top, left] + right * values[:, top, left + 1])
            result[:, i, j] += bottom * ((1 - right) * values[:, top + 1, left] + right * values[:, top + 1, left + 1])
    return result


def test_affine_jitter_is_bilinear_sampling() -> None:
    images = pixels()
    config = NOTHING.model_copy(update={"rotation": 25.0, "shear": 10.0, "zoom": 0.3})
    drawn = draw_augmentation(6, (12, 8), np.random.default_rng(3), config)
    result = apply_augmentation(images, drawn, config, mean=(0, 0, 0), std=(1, 1, 1))
    expected = [sampled(image / 255, matrix) for image, matrix in zip(images, drawn.affine, strict=True)]
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("setting", "strength"), [("rotation", 20.0), ("shear", 15.0), ("zoom", 0.25)])
def test_affine_parameters_stay_in_their_ranges(setting: str, strength: float) -> None:
    config = NOTHING.model_copy(update={setting: strength})
    matrices = draw_augmentation(2000, (12, 8), np.random.default_rng(0), config).affine.astype(np.float64)
    scale = 1 / np.sqrt(np.linalg.det(matrices))
    angle = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    slant = np.degrees(
        np.arctan((matrices[:, 0, 0] * matrices[:, 0, 1] + matrices[:, 1, 0] * matrices[:, 1, 1]) * scale**2)
    )
    found = {"rotation": angle, "shear": slant, "zoom": scale - 1}
    for name, values in found.items():
        bound = strength if name == setting else 0
        assert np.abs(values).max() <= bound + 1e-4
        assert np.abs(values).max() >= 0.98 * bound


def test_affine_jitter_leaves_the_other_parameters_alone() -> None:
    config = EVERYTHING.model_copy(update={"rotation": 5.0})
    plain, jittered = (draw_augmentation(6, (12, 8), np.random.default_rng(0), given) for given in (EVERYTHING, config))
    for first, second in zip(plain[:-1], jittered[:-1], strict=True):
        np.testing.assert_array_equal(first, second)


def test_no_augmentation_is_normalisation() -> None:
    images = pixels()
    result = augment(images, 0, NOTHING)
    torch.testing.assert_close(result, normalise(images, MEAN, STD))
    expected = (images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("config", [EVERYTHING, NOISE], ids=["colour", "noise"])
def test_input_is_untouched_and_the_seed_decides(config: AugmentationConfig) -> None:
    images = pixels()
    before = images.clone()
    first, second = (augment(images, 3, config) for _ in range(2))
    assert torch.equal(images, before)
    assert torch.equal(first, second)


def test_the_distributions_are_those_of_the_settings() -> None:
    config = AugmentationConfig(flip=0.5, pad=10, erasing=0.5)
    drawn = draw_augmentation(20_000, (256, 128), np.random.default_rng(0), config)
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(np.unique(drawn.offset), np.arange(21))
    erased = drawn.box[drawn.box[:, 2] > 0]
    assert len(erased) / 20_000 == pytest.approx(0.5, abs=0.02)
    area = erased[:, 2] * erased[:, 3] / (256 * 128)
    aspect = erased[:, 2] / erased[:, 3]
    assert 0.018 < area.min() < 0.03
    assert 0.35 < area.max() < 0.41
    assert 0.28 < aspect.min() < 0.4
    assert 2.9 < aspect.max() < 3.4
    assert (erased[:, 0] + erased[:, 2] <= 256).all()
    assert (erased[:, 1] + erased[:, 3] <= 128).all()


def test_a_crop_of_a_padded_image_shows_black_borders() -> None:
    config = AugmentationConfig(flip=0, pad=4, erasing=0)
    drawn = draw_augmentation(1, (12, 8), np.random.default_rng(0), config)._replace(offset=np.array([[0, 0]]))
    result = apply_augmentation(torch.full((1, 3, 12, 8), 255, dtype=torch.uint8), drawn, config, mean=MEAN, std=STD)
    black, white = normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1), MEAN, STD)
    torch.testing.assert_close(result[0, :, :4], black.expand(3, 4, 8))
    torch.testing.assert_close(result[0, :, 4:, 4:], white.expand(3, 8, 4))


def test_a_colour_draws_nothing_beyond_the_parameters() -> None:
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    drawn = draw_augmentation(6, (12, 8), rng, EVERYTHING)
    twin.random(6), twin.integers(0, 7, (6, 2))
    for shape in ((6, 1), (6, 3), (6,), (6,), (6, 100), (6, 100)):  # gain, cast, contrast, saturation, area, aspect
        twin.uniform(size=shape)
    twin.random((3, 6))  # whether, top, left
    assert drawn.noise.size == 0
    assert rng.random() == twin.random()


def test_noise_changes_no_other_parameter() -> None:
    plain, noisy = (draw_augmentation(6, (12, 8), np.random.default_rng(5), config) for config in (EVERYTHING, NOISE))
    for name in set(plain._fields) - {"noise"}:
        np.testing.assert_array_equal(getattr(plain, name), getattr(noisy, name))
    assert noisy.noise.size == 3 * (noisy.box[:, 2] * noisy.box[:, 3]).sum() > 0


def test_noise_is_standard_normal_in_every_pixel_and_channel() -> None:
    config = AugmentationConfig(flip=0, pad=0, erasing=1, erasing_area=(0.2, 0.4), erasing_fill="noise")
    black = torch.zeros(64, 3, 64, 32, dtype=torch.uint8)
    result = augment(black, 0, config, mean=(0.0, 0.0, 0.0), std=(0.01, 0.01, 0.01))
    erased = (result != 0).all(1)
    assert 0.2 < erased.float().mean() < 0.4
    values = result.permute(1, 0, 2, 3)[:, erased]
    assert values.mean(1).tolist() == pytest.approx([0, 0, 0], abs=0.02)
    torch.testing.assert_close(torch.cov(values), torch.eye(3), atol=0.03, rtol=0)
    assert torch.equal((result != 0).any(1), erased)


def test_the_fill_is_a_colour_or_noise() -> None:
    assert AugmentationConfig.model_validate({"erasing_fill": [0, 0.5, 1]}).erasing_fill == (0, 0.5, 1)
    with pytest.raises(ValidationError, match="erasing_fill"):
        AugmentationConfig.model_validate({"erasing_fill": "pixel"})


@pytest.mark.parametrize("config", [EVERYTHING, NOISE, NOISE.model_copy(update={"pad": 0, "erasing": 1.0})])
def test_the_gathers_of_a_gpu_give_the_same_bits_as_the_copies_of_a_cpu(config: AugmentationConfig) -> None:
    images = pixels(9)
    drawn = draw_augmentation(9, (12, 8), np.random.default_rng(3), config)
    padded = torch.nn.functional.pad(images, [config.pad] * 4)
    assert torch.equal(_crop_and_flip(images, drawn, config.pad), _gather_crops(padded, drawn, (12, 8)))
    values = images.float()
    by_mask = _erase_by_mask(values, drawn, config.erasing_fill)
    assert not torch.equal(by_mask, values)
    assert torch.equal(_erase(values.clone(), drawn, config.erasing_fill), by_mask)
