"""Multi-crop of whole batches, on any device (DINO: Caron et al., arXiv 2104.14294, section 3.1).

Parameters are drawn on the CPU with NumPy, one set per view and image: the same seed gives the same views on every
device. Resizing and blurring are weighted sums of a few rows and of a few columns, and `embedding_bag` is torch's fast
weighted sum of rows; between the two, images are transposed. The 2 + 8 views take 0.4 of the time of torchvision's v2
operations with the same parameters (64 images of 256 x 128, AMD EPYC, one thread; `benchmarks/augmentation.py`).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from reidkit.config import Settings

__all__ = ["CropConfig", "CropParameters", "apply_crops", "draw_crops"]

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as in torchvision
_MIDDLE = 128 / 255  # the least value that is inverted, as in DINO
_BLUR_REACH = 3  # deviations; 99.7 % of a Gaussian
_PIECE = 2**19  # values that the CPU works on at a time, so that they stay in its cache


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"{values[0]}, {values[1]}: the smallest comes first; swap them")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]


class CropConfig(Settings):
    """The views of an image; the pairs of `global_blur` and `solarise` are those of the two global views.

    For letters and other things that a mirror or a colour changes, set flip, jitter, grey and solarise to 0.
    """

    global_size: Size | None = None
    """Height and width of the 2 global views in pixels; None is the model's input size, that of the images given."""

    local_size: Size | None = None
    """Height and width of the local views in pixels; None is half the global ones'."""

    local_crops: int = Field(8, ge=0)
    """Local views of every image."""

    global_scale: Shares = (0.4, 1.0)
    """Smallest and largest share of the image's area in a global view."""

    local_scale: Shares = (0.05, 0.4)
    """Smallest and largest share of the image's area in a local view."""

    stretch: Range = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a crop, relative to that of the view."""

    flip: Share = 0.5
    """Probability of a horizontal flip."""

    jitter: Share = 0.8
    """Probability of colour jitter."""

    brightness: Share = 0.4
    """Strength b of the jitter: values are scaled by a factor from [1 - b, 1 + b]."""

    contrast: Share = 0.4
    """Strength c: the distance from the mean grey is scaled by a factor from [1 - c, 1 + c]."""

    saturation: Share = 0.2
    """Strength s: the distance from grey is scaled by a factor from [1 - s, 1 + s]."""

    hue: float = Field(0.1, ge=0, le=0.5)
    """Strength h: the hue is turned by a share of the circle from [-h, h]."""

    grey: Share = 0.2
    """Probability of taking the colours away."""

    global_blur: tuple[Share, Share] = (1.0, 0.1)
    """Probability of a Gaussian blur."""

    local_blur: Share = 0.5
    """Probability of a Gaussian blur of a local view."""

    blur_sigma: Range = (0.1, 2.0)
    """Smallest and largest deviation of the blur, in pixels of the view."""

    solarise: tuple[Share, Share] = (0.0, 0.2)
    """Probability of inverting the values from 128 of 255 upwards; local views never are."""

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the global and of the local views, for a model's input of `height` x `width` pixels."""
        whole = self.global_size or (height, width)
        return whole, self.local_size or (max(1, whole[0] // 2), max(1, whole[1] // 2))


class CropParameters(NamedTuple):
    """Parameters of each of B images in each of V views of one size."""

    size: tuple[int, int]
    """Height and width of the views."""
    box: NDArray[np.int64]
    """(V, B, 4) top, left, height, width of the crop."""
    flip: NDArray[np.bool_]
    """(V, B) mirrored?"""
    order: NDArray[np.int64]
    """(V, 4) order of brightness 0, contrast 1, saturation 2 and hue 3, one for all images of a view."""
    factors: NDArray[np.float32]
    """(4, V, B) of these: three factors, where 1 changes nothing, and a share of the circle."""
    grey: NDArray[np.bool_]
    """(V, B) colours taken away?"""
    sigma: NDArray[np.float32]
    """(V, B) deviation of the blur in pixels; 0 does not blur."""
    solarise: NDArray[np.bool_]
    """(V, B) bright values inverted?"""

    def of(self, rows: NDArray[np.int64]) -> "CropParameters":
        """Parameters of some images of the batch."""
        by_image = ("box", "flip", "grey", "sigma", "solarise")
        chosen = {name: getattr(self, name)[:, rows] for name in by_image}
        return self._replace(factors=self.factors[:, :, rows], **chosen)


def draw_crops(
    batch: int, shape: tuple[int, int], rng: np.random.Generator, config: CropConfig
) -> tuple[CropParameters, CropParameters]:
    """Draw the parameters of the global and of the local views of a batch of images of `shape` (H, W)."""
    whole, local = config.sizes(*shape)
    never, sometimes = (0.0,) * config.local_crops, (config.local_blur,) * config.local_crops
    return (
        _draw(batch, shape, rng, config, whole, config.global_scale, config.global_blur, config.solarise),
        _draw(batch, shape, rng, config, local, config.local_scale, sometimes, never),
    )


@torch.no_grad()
def apply_crops(
    pixels: Tensor, drawn: CropParameters, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Cut, resize, flip, jitter, grey, blur, solarise and normalise every view of every image by drawn parameters.

    Args:
        pixels: (B, 3, H, W) uint8 RGB.
        drawn: Global or local views of `draw_crops`.
        mean: Per channel, of values in [0, 1].
        std: Per channel.

    Returns:
        (V, B, 3, *size) float32, normalised; `flatten(0, 1)` gives the rows that `DinoLoss` expects.
    """
    # Channels before images, so that operations on one channel run over one block of memory
    columns = pixels.permute(1, 0, 3, 2).contiguous().float().div_(255)
    shift, scale = (columns.new_tensor(values)[:, None, None, None] for values in (mean, std))
    views, batch = drawn.flip.shape
    out = columns.new_empty(views, batch, 3, *drawn.size)
    step = max(1, _PIECE // (3 * math.prod(drawn.size))) if columns.device.type == "cpu" else max(1, batch)
    for view in range(views):
        for start in range(0, batch, step):
            at = (view, slice(start, min(start + step, batch)))
            images = _crop(columns, start, drawn.box[at], drawn.flip[at], drawn.size)
            _jitter(images, drawn.order[view], drawn.factors[:, *at])
            _change(images, drawn.grey[at], _grey)
            sigma = drawn.sigma[at]
            _change(images, sigma > 0, partial(_blur, sigma=sigma[sigma > 0]))
            _change(images, drawn.solarise[at], _solarise)
            out[at] = images.sub_(shift).div_(scale).transpose(0, 1)
    return out


def _draw(
    batch: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
    config: CropConfig,
    size: tuple[int, int],
    area: tuple[float, float],
    blur: Sequence[float],
    solarise: Sequence[float],
) -> CropParameters:
    """Draw for as many views as there are probabilities of blurring."""
    views = (len(blur), batch)
    strengths = np.array([config.brightness, config.contrast, config.saturation, config.hue])[:, None, None]
    jittered = rng.random(views) < config.jitter
    offsets = rng.uniform(-1, 1, (4, *views)) * strengths * jittered
    blurred = rng.random(views) < np.reshape(blur, (-1, 1))
    return CropParameters(
        size=size,
        box=_draw_boxes(views, shape, rng, size[1] / size[0], area, config.stretch),
        flip=rng.random(views) < config.flip,
        order=rng.permuted(np.tile(np.arange(4), (views[0], 1)), axis=1),
        factors=(offsets + np.reshape([1, 1, 1, 0], (4, 1, 1))).astype(np.float32),
        grey=rng.random(views) < config.grey,
        sigma=(blurred * rng.uniform(*config.blur_sigma, views)).astype(np.float32),
        solarise=rng.random(views) < np.reshape(solarise, (-1, 1)),
    )


def _draw_boxes(
    views: tuple[int, int],
    shape: tuple[int, int],
    rng: np.random.Generator,
    aspect: float,
    scale: tuple[float, float],
    stretch: tuple[float, float],
) -> NDArray[np.int64]:
    """(V, B, 4) top, left, height, width: the first of 10 drawn boxes that fits the image, at a random place.

    Where none fits it is the middle of the image, as large as the asked shapes allow (torchvision's RandomResizedCrop).
    """
    image_height, image_width = shape
    least, most = (aspect * bound for bound in stretch)
    area = rng.uniform(*scale, (_ATTEMPTS, *views)) * image_height * image_width
    ratio = np.exp(rng.uniform(math.log(least), math.log(most), (_ATTEMPTS, *views)))
    heights, widths = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
    fits = (heights >= 1) & (widths >= 1) & (heights <= image_height) & (widths <= image_width)
    first, found = fits.argmax(0)[None], fits.any(0)
    height = np.where(found, np.take_along_axis(heights, first, 0)[0], min(image_height, round(image_width / least)))
    width = np.where(found, np.take_along_axis(widths, first, 0)[0], min(image_width, round(image_height * most)))
    place = np.where(found, rng.random((2, *views)), 0.5)
    # A drawn place is even over all that fit; the middle is exact but for half a pixel.
    top = np.floor(place[0] * (image_height - height + found))
    left = np.floor(place[1] * (image_width - width + found))
    return np.stack([top, left, height, width], -1).astype(np.int64)


def _crop(
    columns: Tensor, start: int, boxes: NDArray[np.int64], flip: NDArray[np.bool_], size: tuple[int, int]
) -> Tensor:
    """(3, N, W, H), transposed images, to views (3, n, *size) of the n from `start` on, each by its box."""
    top, left, height, width = boxes.T
    across = _bicubic(left, width, flip, size[1], columns.device)
    down = _bicubic(top, height, np.zeros_like(flip), size[0], columns.device)
    return _weighted_rows(_weighted_rows(columns, *across, start).mT.contiguous(), *down).clamp_(0, 1)


def _bicubic(
    start: NDArray[np.int64], length: NDArray[np.int64], mirrored: NDArray[np.bool_], outputs: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Indices and weights (n, outputs, T) of the pixels that make up each of the outputs, counted within the image.

    Keys' cubic (a = -0.5), widened when shrinking (antialiased); beyond the box there is nothing, weights still sum
    to 1: as Pillow and torchvision do.
    """
    taps = math.ceil(4 * max(1, length.max() / outputs))
    box = torch.from_numpy(np.stack([start, length, mirrored]).astype(np.float32)).to(device)
    first, extent, backwards = box[:, :, None]
    step = extent / outputs
    reach = step.clamp(min=1)
    output = torch.arange(outputs, device=device)
    centre = (output + backwards * (outputs - 1 - 2 * output) + 0.5) * step
    place = (centre - 2 * reach + 0.5).floor()[:, :, None] + torch.arange(taps, device=device)
    distance = ((place + 0.5 - centre[:, :, None]) / reach[:, :, None]).abs()
    near, far = distance.clamp(max=1), distance.clamp(1, 2)  # each polynomial is 0 at the ends that the other lacks
    weights = (1.5 * near - 2.5) * near.square() + 1 + ((2.5 - 0.5 * far) * far - 4) * far + 2
    weights *= (place >= 0) & (place < extent[:, :, None])
    inside = place.clamp_(min=0).minimum(extent[:, :, None] - 1)
    return (first[:, :, None] + inside).int(), weights / weights.sum(2, keepdim=True)


def _weighted_rows(images: Tensor, index: Tensor, weights: Tensor, start: int = 0) -> Tensor:
    """Rows of images (3, N, L, M) from `start` on, summed by index and weights (n, out, T): (3, n, out, M)."""
    count, outputs, taps = index.shape
    first = torch.arange(3 * images.shape[1], device=index.device, dtype=torch.int32) * images.shape[2]
    rows = index + first.view(3, -1)[:, start : start + count, None, None]
    total = torch.nn.functional.embedding_bag(
        rows.view(-1, taps),
        images.view(-1, images.shape[3]),
        mode="sum",
        per_sample_weights=weights.expand(3, -1, -1, -1).reshape(-1, taps),
    )
    return total.view(3, count, outputs, -1)


def _jitter(images: Tensor, order: NDArray[np.int64], factors: NDArray[np.float32]) -> None:
    """Change brightness, contrast, saturation and hue of images (3, n, h, w) in place, as torchvision defines them."""
    neutral = (1, 1, 1, 0)
    for operation in order.tolist():
        if (factors[operation] == neutral[operation]).all():
            continue
        factor = torch.from_numpy(factors[operation]).to(images.device)[:, None, None]
        if operation == 3:
            _turn_hue(images, factor)
            continue
        if operation == 0:
            images.mul_(factor)
        else:
            grey = _grey(images.mean((2, 3), keepdim=True) if operation == 1 else images)
            images.mul_(factor).add_(grey.mul_(1 - factor))
        images.clamp_(0, 1)


def _turn_hue(images: Tensor, turn: Tensor) -> None:
    """Turn the hue in HSV by shares of the circle (n, 1, 1).

    With x = (value - red) / chroma and e = (green - blue) / chroma, the hue's distance from red in sixths of the circle
    is |e| + 3 x - 2 |e| x, and e's sign is its side: |e| = 1 where red is the middle channel, x = 0 where it is the
    largest and 1 where it is the smallest.
    """
    red, green, blue = images
    value = torch.maximum(red, green).maximum(blue)
    chroma = value - torch.minimum(red, green).minimum(blue)
    scale = chroma.clamp(min=torch.finfo(chroma.dtype).tiny).reciprocal_()
    side = (green - blue).mul_(scale)
    far = (value - red).mul_(scale)
    size = side.abs()
    hue = torch.addcmul(size + 3 * far, size, far, value=-2).copysign_(side).add_(6 * turn)
    hue.sub_((hue / 6).floor_(), alpha=6)
    base, turned = value - 2 * chroma, value + chroma
    for channel, centre, start, sign in ((0, 3, base, 1), (1, 2, turned, -1), (2, 4, turned, -1)):
        torch.addcmul(start, chroma, (hue - centre).abs_().clamp_(1, 2), value=sign, out=images[channel])


def _blur(images: Tensor, sigma: NDArray[np.float32]) -> Tensor:
    """Blur images (3, n, h, w) by `sigma` (n,) pixels; the border mirrors the image, as in torchvision."""
    deviations, reach = torch.from_numpy(sigma).to(images.device), math.ceil(_BLUR_REACH * sigma.max())
    for _ in range(2):
        images = _weighted_rows(images, *_gaussian(deviations, images.shape[2], reach)).mT.contiguous()
    return images


def _gaussian(sigma: Tensor, length: int, reach: int) -> tuple[Tensor, Tensor]:
    """Indices and weights (n, length, T) of a Gaussian mean."""
    reach = min(reach, length - 1)
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offset / sigma[:, None]).square()) * (offset.abs() <= _BLUR_REACH * sigma[:, None])
    weights /= weights.sum(1, keepdim=True)
    place = (torch.arange(length, device=sigma.device)[:, None] + offset).abs()
    place = length - 1 - (length - 1 - place).abs()
    count = len(sigma)
    return place.int().expand(count, -1, -1), weights[:, None].expand(-1, length, -1)


def _change(images: Tensor, chosen: NDArray[np.bool_], operation: Callable[[Tensor], Tensor]) -> None:
    """Replace the chosen of images (3, n, h, w) by the result of `operation` on them."""
    if chosen.any():
        index = torch.from_numpy(np.flatnonzero(chosen)).to(images.device)
        images.index_copy_(1, index, operation(images.index_select(1, index)).expand(3, -1, -1, -1))


def _grey(images: Tensor) -> Tensor:
    """(3, n, h, w) to (n, h, w)."""
    red, green, blue = images
    grey: Tensor = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return grey


def _solarise(images: Tensor) -> Tensor:
    return torch.where(images < _MIDDLE, images, 1 - images)
