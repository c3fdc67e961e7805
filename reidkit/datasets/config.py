"""Settings of data, batches and augmentation."""

from typing import Annotated, Literal

from pydantic import Field

from reidkit.config import Settings

__all__ = ["AugmentationConfig", "Colour", "DataConfig", "SamplerConfig"]

Colour = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1)]


class DataConfig(Settings):
    """Data sets, and how their pixels are read."""

    target: str = "synthetic"
    """Data set: a name (`reidkit data list`), a folder (Market-1501 layout, plain images) or a CSV or Parquet table."""

    source: str = ""
    """Labelled data set that UDA starts from, named likewise."""

    cameras: bool = True
    """Use the camera ids of file names; without them the sampler and the evaluation treat cameras as unknown."""

    strict: bool = False
    """Stop at the first unreadable image instead of leaving it out with a warning."""

    store_gib: float = Field(64.0, ge=0)
    """GiB on the disk that decoded images may take, over all data sets; a set that does not fit is decoded in
    every epoch. 0 stores nothing."""

    mean: Colour = (0.5, 0.5, 0.5)
    """Mean of the RGB channels, subtracted from pixel values in [0, 1]."""

    std: Colour = (0.5, 0.5, 0.5)
    """Standard deviation of the RGB channels, dividing."""


class SamplerConfig(Settings):
    """P x K batches."""

    batch_size: int = Field(256, ge=2)
    """Images per training step, P x K, over all processes."""

    instances: int = Field(8, ge=1)
    """K: images of one cluster in a batch; must divide the batch size."""


class AugmentationConfig(Settings):
    """Changes of a training image, in this order; sizes in pixels of the model's input."""

    flip: Share = 0.5
    """Probability of a horizontal flip; 0 for letters and other things that a mirror changes."""

    pad: int = Field(10, ge=0)
    """Black pixels added on every side before a random crop of the original size."""

    rotation: float = Field(0.0, ge=0, le=180)
    """Largest angle, in degrees, by which an image is turned either way."""

    shear: float = Field(0.0, ge=0, lt=90)
    """Largest angle, in degrees, by which its upright lines are slanted either way."""

    zoom: float = Field(0.0, ge=0, lt=1)
    """Strength z: it is scaled by a factor from [1 - z, 1 + z]."""

    brightness: Share = 0.0
    """Strength b: values are scaled by a factor from [1 - b, 1 + b]."""

    contrast: Share = 0.0
    """Strength c: the distance from the mean grey is scaled by a factor from [1 - c, 1 + c]."""

    saturation: Share = 0.0
    """Strength s: the distance from grey is scaled by a factor from [1 - s, 1 + s]."""

    colour_cast: Share = 0.0
    """Strength g: each channel is scaled by its own factor from [1 - g, 1 + g], as another white balance does."""

    erasing: Share = 0.5
    """Probability of random erasing."""

    erasing_area: tuple[Share, Share] = (0.02, 0.4)
    """Smallest and largest share of the image that is erased."""

    erasing_aspect: tuple[float, float] = (0.3, 3.3)
    """Smallest and largest height / width of the erased box."""

    erasing_fill: Colour | Literal["noise"] = (0.485, 0.456, 0.406)
    """RGB values written into the erased box, after normalisation; `noise` is a standard-normal value for every pixel
    and channel instead."""
