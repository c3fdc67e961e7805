"""What a trained model is used for: features of any images, and the search for images like a query."""

from reidkit.inference.calibration import Calibration, fit_calibration
from reidkit.inference.embedder import Embedder, load
from reidkit.inference.extraction import Extraction, extract_to_file
from reidkit.inference.gallery import GalleryIndex, GalleryUpdate
from reidkit.inference.page import write_search_page
from reidkit.inference.search import Match, search_gallery
from reidkit.inference.sources import find_images

__all__ = [
    "Calibration",
    "Embedder",
    "Extraction",
    "GalleryIndex",
    "GalleryUpdate",
    "Match",
    "extract_to_file",
    "find_images",
    "fit_calibration",
    "load",
    "search_gallery",
    "write_search_page",
]
