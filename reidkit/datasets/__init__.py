"""Benchmark and custom image sets, synthetic persons, batches and augmentation."""

from reidkit.datasets.augmentation import augment, normalise
from reidkit.datasets.benchmarks import CATALOG
from reidkit.datasets.catalog import (
    SYNTHETIC,
    cache_folder,
    default_data_root,
    find_root,
    load_dataset,
    synthetic_config,
)
from reidkit.datasets.check import check_dataset
from reidkit.datasets.config import AugmentationConfig, Colour, DataConfig, SamplerConfig
from reidkit.datasets.images import DecodedImages, decode_images
from reidkit.datasets.sampler import sample_batches
from reidkit.datasets.splits import ReIDDataset, Split
from reidkit.datasets.synthetic import SyntheticConfig, make_synthetic

__all__ = [
    "CATALOG",
    "SYNTHETIC",
    "AugmentationConfig",
    "Colour",
    "DataConfig",
    "DecodedImages",
    "ReIDDataset",
    "SamplerConfig",
    "Split",
    "SyntheticConfig",
    "augment",
    "cache_folder",
    "check_dataset",
    "decode_images",
    "default_data_root",
    "find_root",
    "load_dataset",
    "make_synthetic",
    "normalise",
    "sample_batches",
    "synthetic_config",
]
