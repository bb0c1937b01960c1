"""Files beside unlabelled cases that may be their labels, in a format that is not read."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# Formats of volumes, and archives, that this program does not read.
_OTHER_FORMAT = re.compile(
    r".+\.(?:nrrd|nhdr|mha|mhd|mgz|mgh|mnc|img|hdr|gipl|vtk|dcm|npy|npz|mat|h5|hdf5|tiff?|raw"
    r"|zip|7z|rar|tar|tgz|tar\.gz|nii\.(?:zip|bz2|xz|zst|part|tmp))",
    re.IGNORECASE | re.DOTALL,
)
_LABEL_WORD = re.compile(r"seg|label|mask|truth|annot|tumou?r|lesion|roi|(?<![a-z])gt(?![a-z])")
_LABELS_OF_ALL = re.compile(
    r"(?<![a-z])(?:seg|label|mask|annot|(?:ground[ _-]?)?truth|gt(?![a-z]))"
)


def unread_labels(
    root: Path, cases: Mapping[str, Mapping[str, str]], files: Sequence[Path]
) -> dict[str, str]:
    """A line for each case without labels beside which something may be the labels.

    That is a file of another format, or an empty folder: called after the case; in the folder of
    this case alone; or there, or beside this folder, with a word such as 'seg' in its name.

    Args:
      root: the folder of the source; nothing outside of it is looked at.
      cases: the paths of the volumes of each case without labels.
      files: every file below `root`.
    """
    folders = {
        name: {Path(path).parent for path in paths.values()} for name, paths in cases.items()
    }
    number = Counter(folder for own in folders.values() for folder in own)
    by_name = {name.lower(): name for name in cases}
    found: dict[str, str] = {}

    def give(path: Path, line: str) -> None:
        stem = path.name.lower()
        ends = [*[sign.start() for sign in re.finditer(r"[\s._-]", stem)], len(stem)]
        for end in reversed(ends):  # the longest name first
            if name := by_name.get(stem[:end]):
                found.setdefault(name, line)
                return
        alone, of_all = number[path.parent] == 1, _LABELS_OF_ALL.search(stem)
        is_meant = alone or _LABEL_WORD.search(stem)
        for name, own in folders.items():
            beside = of_all and path.parent in {folder.parent for folder in own}
            if beside or (is_meant and path.parent in own):
                found.setdefault(name, line)

    for path in files:
        if _OTHER_FORMAT.fullmatch(path.name):
            give(path, f"{path.name} is no NIfTI file: convert it if it holds labels")
    for folder in _empty_folders(root, number):
        give(folder, f"the folder {folder.name} is empty: fetch its files if it should hold labels")
    return found


def _empty_folders(root: Path, folders: Iterable[Path]) -> list[Path]:
    """The empty folders in some folders, and in those that hold these."""
    places = {place for folder in folders for place in (folder, folder.parent)}
    found = []
    for place in sorted(places):
        if not place.is_relative_to(root) or not place.is_dir():
            continue
        for path in sorted(place.iterdir()):
            try:
                if not path.name.startswith(".") and path.is_dir() and not any(os.scandir(path)):
                    found.append(path)
            except OSError:  # told elsewhere
                continue
    return found
