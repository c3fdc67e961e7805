"""Benchmark and custom image sets, synthetic persons, batches and augmentation."""

from reidkit.datasets.augmentation import apply_augmentation, augment, draw_augmentation, normalise
from reidkit.datasets.benchmarks import CATALOG
from reidkit.datasets.catalog import (
    SYNTHETIC,
    cache_folder,
    default_data_root,
    find_root,
    find_roots,
    load_dataset,
    synthetic_config,
)
from reidkit.datasets.check import DatasetFacts, check_dataset
from reidkit.datasets.config import AugmentationConfig, Colour, DataConfig, SamplerConfig
from reidkit.datasets.contact_sheet import write_contact_sheet
from reidkit.datasets.crops import CropConfig, apply_crops, draw_crops, multi_crop
from reidkit.datasets.images import DecodedImages, Pixels, StoredImages, decode_images, iterate_images
from reidkit.datasets.sampler import sample_batches
from reidkit.datasets.splits import ReIDDataset, Split
from reidkit.datasets.store import StoreRecord, evict, list_stores, open_images
from reidkit.datasets.streaming import StreamedImages, prefetch
from reidkit.datasets.synthetic import SyntheticConfig, make_synthetic

__all__ = [
    "CATALOG",
    "SYNTHETIC",
    "AugmentationConfig",
    "Colour",
    "CropConfig",
    "DataConfig",
    "DatasetFacts",
    "DecodedImages",
    "Pixels",
    "ReIDDataset",
    "SamplerConfig",
    "Split",
    "StoreRecord",
    "StoredImages",
    "StreamedImages",
    "SyntheticConfig",
    "apply_augmentation",
    "apply_crops",
    "augment",
    "cache_folder",
    "check_dataset",
    "decode_images",
    "default_data_root",
    "draw_augmentation",
    "draw_crops",
    "evict",
    "find_root",
    "find_roots",
    "iterate_images",
    "list_stores",
    "load_dataset",
    "make_synthetic",
    "multi_crop",
    "normalise",
    "open_images",
    "prefetch",
    "sample_batches",
    "synthetic_config",
    "write_contact_sheet",
]
