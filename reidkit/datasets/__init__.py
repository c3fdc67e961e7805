"""Benchmark and custom image sets, synthetic persons, batches and augmentation."""

from reidkit.datasets.augmentation import apply_augmentation, draw_augmentation, normalise
from reidkit.datasets.benchmarks import CATALOG
from reidkit.datasets.catalog import (
    SYNTHETIC,
    cache_folder,
    default_data_root,
    find_roots,
    load_dataset,
    synthetic_config,
)
from reidkit.datasets.check import DatasetFacts, check_dataset
from reidkit.datasets.config import AugmentationConfig, Colour, DataConfig, SamplerConfig
from reidkit.datasets.contact_sheet import SheetImage, SheetRow, draw_clusters, draw_contact_sheet, write_contact_sheet
from reidkit.datasets.crops import CropConfig, apply_crops, draw_crops
from reidkit.datasets.decoding import (
    DecodedImages,
    Pixels,
    StoredImages,
    decode_images,
    iterate_images,
    resize_image,
)
from reidkit.datasets.image_files import IMAGE_SUFFIXES, open_image, unreadable_warnings
from reidkit.datasets.image_folder import load_plain
from reidkit.datasets.sampler import sample_batches
from reidkit.datasets.splits import JUNK, UNKNOWN, ReIDDataset, Split
from reidkit.datasets.store import StoreRecord, evict, list_stores, open_images
from reidkit.datasets.streaming import prefetch

__all__ = [
    "CATALOG",
    "IMAGE_SUFFIXES",
    "JUNK",
    "SYNTHETIC",
    "UNKNOWN",
    "AugmentationConfig",
    "Colour",
    "CropConfig",
    "DataConfig",
    "DatasetFacts",
    "DecodedImages",
    "Pixels",
    "ReIDDataset",
    "SamplerConfig",
    "SheetImage",
    "SheetRow",
    "Split",
    "StoreRecord",
    "StoredImages",
    "apply_augmentation",
    "apply_crops",
    "cache_folder",
    "check_dataset",
    "decode_images",
    "default_data_root",
    "draw_augmentation",
    "draw_clusters",
    "draw_contact_sheet",
    "draw_crops",
    "evict",
    "find_roots",
    "iterate_images",
    "list_stores",
    "load_dataset",
    "load_plain",
    "normalise",
    "open_image",
    "open_images",
    "prefetch",
    "resize_image",
    "sample_batches",
    "synthetic_config",
    "unreadable_warnings",
    "write_contact_sheet",
]
