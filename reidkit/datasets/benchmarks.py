"""The data sets known by name: their folders, layouts, and published counts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reidkit.datasets.image_folder import load_plain
from reidkit.datasets.lmdb_images import load_lmdb
from reidkit.datasets.market import MARKET_FOLDERS, load_market
from reidkit.datasets.msmt17 import MSMT17_LISTS, is_msmt17, load_msmt17, msmt17_version
from reidkit.datasets.splits import ReIDDataset
from reidkit.datasets.vehicleid import VEHICLEID_SIZES, load_vehicleid

__all__ = ["CATALOG", "CUSTOM_LAYOUTS", "DatasetEntry", "Layout"]

VERI_FOLDERS = ("image_train", "image_query", "image_test")
PERSONX_CAMERAS = (3, 4, 8, 10, 11, 12)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files of a set are arranged."""

    marker: str
    """File or folder, relative to the root, by which this layout is recognised."""
    load: Callable[[Path, str], ReIDDataset]
    """Reads a root; the second argument is the name of the data set."""
    shared: bool = False
    """Whether other sets have it too, so that they are told apart by the folder's name."""
    recognise: Callable[[Path], bool] | None = None
    """Recognises a root where the marker alone does not suffice."""
    release: Callable[[Path], str] | None = None
    """Names the release of a root, for a set of several releases with different results."""

    def fits(self, folder: Path) -> bool:
        """Whether a folder is a root in this layout."""
        return (folder / self.marker).exists() if self.recognise is None else self.recognise(folder)


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One data set that is known by name."""

    name: str
    title: str
    folders: tuple[str, ...]
    """Names, in lower case, under which the set's folder is looked for below the data root."""
    layouts: tuple[Layout, ...]
    """Layouts in which it is distributed; the first that fits is taken."""
    expected: dict[str, tuple[int, int]]
    """Split -> (identities, images) as published; gallery counts are without junk."""
    cameras: int
    """Cameras of the training images as published; 0 where they are not known."""
    access: str
    """Source of the data, in words."""
    notice: str = ""
    """Warning to all who load it."""


MARKET = Layout(MARKET_FOLDERS[0], load_market)
MSMT17 = Layout(MSMT17_LISTS[0], load_msmt17, recognise=is_msmt17, release=msmt17_version)
VERI = Layout(VERI_FOLDERS[0], partial(load_market, version="VeRi-776", folders=VERI_FOLDERS))
VEHICLEID = {size: Layout("train_test_split", partial(load_vehicleid, size=size)) for size in VEHICLEID_SIZES}
LMDB = Layout("data.mdb", load_lmdb, shared=True)

CUSTOM_LAYOUTS = (MARKET, MSMT17, VERI, VEHICLEID[800], LMDB)
"""Layouts of a folder that is given by its path; VehicleID's smallest test list is the most used one."""


def _market_like(version: str, *, cameras: tuple[int, ...] | None = None, comparable: bool = True) -> Layout:
    """Market-1501's layout, of another set."""
    load = partial(load_market, version=version, cameras=cameras, comparable=comparable)
    return Layout(MARKET.marker, load, shared=True, release=lambda _: version)


_REORGANISED_MSMT17 = _market_like("re-organised, Market-1501 layout", comparable=False)


def _cuhk03(boxes: str) -> Layout:
    version = f"CUHK03-NP, {boxes} boxes"
    return Layout(f"{boxes}/{MARKET.marker}", lambda root, name: load_market(root / boxes, name, version))


_LUPERSON_LMDB = Layout(LMDB.marker, partial(load_lmdb, version="LUPerson, LMDB"), shared=True)


def _luperson(root: Path, name: str) -> ReIDDataset:
    return load_plain(root / "images", name, "LUPerson, folder of images")


_CUHK03_ACCESS = (
    "CUHK03 (Li et al., CVPR 2014) in the new protocol (Zhong et al., CVPR 2017) is linked from the page of the "
    "re-ranking paper's code"
)

CATALOG = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            "market",
            "Market-1501",
            ("market", "market1501", "market-1501", "market-1501-v15.09.15"),
            (Layout(MARKET.marker, partial(load_market, version="Market-1501")),),
            {"train": (751, 12_936), "query": (750, 3_368), "gallery": (751, 15_913)},
            6,
            "Market-1501 (Zheng et al., ICCV 2015) is linked from its authors' project page",
        ),
        DatasetEntry(
            "msmt17",
            "MSMT17",
            ("msmt17", "msmt17_v1", "msmt17_v2"),
            (MSMT17, _REORGANISED_MSMT17),
            {"train": (1_041, 32_621), "query": (3_060, 11_659), "gallery": (3_060, 82_161)},
            15,
            "MSMT17 (Wei et al., CVPR 2018, arXiv 1711.08565) is given out on request by its authors, the PKU-VMC "
            "group at Peking University, against a signed release agreement",
        ),
        DatasetEntry(
            "duke",
            "DukeMTMC-reID",
            ("duke", "dukemtmc-reid", "dukemtmcreid", "dukemtmc"),
            (_market_like("DukeMTMC-reID, withdrawn by its authors"),),
            {"train": (702, 16_522), "query": (702, 2_228), "gallery": (1_110, 17_661)},
            8,
            "It was withdrawn by its authors and is not given out any more",
            notice="DukeMTMC-reID was withdrawn by its authors in 2019 over the consent of the people it shows: ask "
            "yourself whether you need it, and say so where you publish results",
        ),
        *(
            DatasetEntry(
                f"cuhk03-{boxes}",
                f"CUHK03-NP, {boxes} boxes",
                ("cuhk03-np", "cuhk03np", "cuhk03_np", "cuhk03"),
                (_cuhk03(boxes),),
                {"train": (767, train), "query": (700, 1_400), "gallery": (700, gallery)},
                2,
                _CUHK03_ACCESS,
            )
            for boxes, train, gallery in (("labeled", 7_368, 5_328), ("detected", 7_365, 5_332))
        ),
        DatasetEntry(
            "personx",
            "PersonX, subset 1",
            ("personx", "personx_subset1", "subset1"),
            (_market_like("PersonX subset 1", cameras=PERSONX_CAMERAS),),
            {"train": (410, 9_840), "query": (856, 5_136), "gallery": (856, 30_816)},
            6,
            "PersonX (Sun and Zheng, CVPR 2019) is linked from its authors' project page; subset 1 is meant",
        ),
        DatasetEntry(
            "veri",
            "VeRi-776 (vehicles)",
            ("veri", "veri776", "veri-776", "veri_776"),
            (VERI,),
            {"train": (576, 37_778), "query": (200, 1_678), "gallery": (200, 11_579)},
            20,
            "VeRi-776 (Liu et al., ECCV 2016) is given out on request by its authors",
        ),
        *(
            DatasetEntry(
                f"vehicleid-{size}",
                f"VehicleID (vehicles), test list of {size:,}",
                ("vehicleid", "vehicleid_v1.0", "pku-vehicleid"),
                (VEHICLEID[size],),
                {"train": (13_164, 113_346), "gallery": (size, size)},
                0,
                "VehicleID (Liu et al., CVPR 2016) is given out on request by its authors at Peking University",
            )
            for size in VEHICLEID_SIZES
        ),
        DatasetEntry(
            "luperson",
            "LUPerson (unlabelled)",
            ("luperson", "lup"),
            (
                Layout("images", _luperson, shared=True),
                _LUPERSON_LMDB,
            ),
            {"train": (0, 4_180_243)},
            0,
            "LUPerson (Fu et al., CVPR 2021) is given out on request by its authors",
        ),
    )
}
"""Name -> entry, for data that has to be obtained."""
