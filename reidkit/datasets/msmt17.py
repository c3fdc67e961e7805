"""MSMT17 (Wei et al., CVPR 2018) as its authors ship it: image folders and four list files."""

from pathlib import Path

from reidkit.datasets.splits import ReIDDataset, make_split
from reidkit.errors import DataError

__all__ = ["MSMT17_LISTS", "load_msmt17"]

MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

_FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}


def load_msmt17(root: Path, name: str = "msmt17") -> ReIDDataset:
    """Read MSMT17 V1 or V2; training is train + val, the 32,621 images that published figures use.

    A line of a list is `0000/0000_000_01_0303morning_0008_0.jpg 0`: a path below the split's folder and the identity
    (which comes from the list, not from the folder). The third field of the file's name is the camera, 01 to 15. Query
    and gallery number their identities independently of training.

    Raises:
        DataError: A list or folder is missing, both versions are mixed, or a line cannot be understood.
    """
    found = [version for version, folders in _FOLDERS.items() if any((root / folder).is_dir() for folder in folders)]
    if len(found) != 1:
        problem = "holds folders of both V1 and V2" if found else "has no image folders"
        raise DataError(
            f"{root} {problem}; MSMT17 is either {' and '.join(_FOLDERS['V1'])} (V1) or "
            f"{' and '.join(_FOLDERS['V2'])} (V2), and results differ between them: keep one"
        )
    version = found[0]
    train_folder, test_folder = (root / folder for folder in _FOLDERS[version])
    folders = (train_folder, train_folder, test_folder, test_folder)
    train, validation, query, gallery = (
        _read_list(root / listing, folder) for listing, folder in zip(MSMT17_LISTS, folders, strict=True)
    )
    return ReIDDataset(
        name,
        root,
        f"{version}, train + val",
        make_split([*train, *validation], relabel=True),
        make_split(query),
        make_split(gallery),
    )


def _read_list(listing: Path, folder: Path) -> list[tuple[Path, int, int]]:
    """(path, identity, 0-based camera) of every line of one list file."""
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"{listing} cannot be read ({error.strerror}); MSMT17 needs {', '.join(MSMT17_LISTS)} beside its folders"
        ) from None
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            relative, identity = line.rsplit(maxsplit=1)
            camera = int(Path(relative).name.split("_")[2]) - 1
            entries.append((folder / relative, int(identity), camera))
        except (ValueError, IndexError):
            raise DataError(
                f"{listing}, line {number}: {line!r} is not of the form '0000/0000_000_01_0303morning_0008_0.jpg 0'"
            ) from None
    absent = next((path for path, *_ in entries if not path.exists()), None)
    if absent is not None:
        raise DataError(
            f"{listing} names {absent}, which does not exist; the list and the images are of different versions, or "
            "the archive is not fully extracted"
        )
    return entries
