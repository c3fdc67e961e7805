"""Use of a trained model: features of any images, and the search for images like a query."""

from reidkit.inference.calibration import Calibration, calibrate, fit_calibration, read_calibration, write_calibration
from reidkit.inference.embedder import Embedder, load
from reidkit.inference.extraction import Extraction, extract_to_file
from reidkit.inference.gallery_index import GalleryIndex, GalleryUpdate, is_index
from reidkit.inference.gallery_search import Match, open_gallery, search_gallery, write_matches
from reidkit.inference.pixels import printable
from reidkit.inference.search_page import write_search_page
from reidkit.inference.sources import SPLITS, find_images

__all__ = [
    "SPLITS",
    "Calibration",
    "Embedder",
    "Extraction",
    "GalleryIndex",
    "GalleryUpdate",
    "Match",
    "calibrate",
    "extract_to_file",
    "find_images",
    "fit_calibration",
    "is_index",
    "load",
    "open_gallery",
    "printable",
    "read_calibration",
    "search_gallery",
    "write_calibration",
    "write_matches",
    "write_search_page",
]
