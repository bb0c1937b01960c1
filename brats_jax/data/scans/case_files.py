"""Which files belong to which case, by the names of any BraTS release since 2020.

    2020   BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz]
    2021   BraTS2021_01476/BraTS2021_01476_{flair,t1,t1ce,t2,seg}.nii.gz
    2023+  BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz

Spelling varies in upper and lower case. The labels of case 355 of 2020 are called
W39_1998.09.19_Segm.nii: where a case lacks labels of the usual name, the only *seg* file of a
folder that is its own will do.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.modalities import ALIASES

VOLUME_FILE = re.compile(
    rf"(?P<case>.+)[_-](?P<what>{'|'.join(ALIASES)}|seg)\.nii(?:\.gz)?", re.IGNORECASE
)
SEG = "seg"
_LABEL_FILE = re.compile(r".*seg.*\.nii(?:\.gz)?", re.IGNORECASE)
_FOLLOW_UP = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}", re.IGNORECASE)
# Which spellings of the modalities belong to the releases whose ET is 3, whose 4 is another thing.
_SINCE_2023 = {"t1n", "t1c", "t2w", "t2f"}


@dataclasses.dataclass
class CaseFiles:
    """The files of one case.

    Attributes:
      name: of the case, as first spelt.
      folder: where its first file lies.
      paths: by canonical modality, and `SEG` for the labels.
      since_2023: whether it is named as releases since 2023 name it.
      conflict: why it cannot be told which files are meant; empty if it can.
    """

    name: str
    folder: Path
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    since_2023: bool = False
    conflict: str = ""


def group_by_case(files: Sequence[Path], *, labels: bool = True) -> dict[str, CaseFiles]:
    """The cases among files, by name; other files, and labels unless wanted, are passed over."""
    cases: dict[str, CaseFiles] = {}
    for path in files:
        match = VOLUME_FILE.fullmatch(path.name)
        if match is None or (not labels and match["what"].lower() == SEG):
            continue
        key, what = match["case"].lower(), match["what"].lower()
        case = cases.setdefault(key, CaseFiles(match["case"], path.parent))
        case.since_2023 |= what in _SINCE_2023
        other = case.paths.setdefault(ALIASES.get(what, SEG), str(path))
        if case.conflict:
            continue
        if case.folder != path.parent:
            case.conflict = (
                f"{path.parent} and {case.folder} both hold the case {case.name}: keep one of them"
            )
        elif other != str(path):
            case.conflict = f"{path} and {other} are the same volume: keep one of them"
    if labels:
        _take_odd_labels(cases, files)
    return {case.name: case for case in cases.values()}


def _take_odd_labels(cases: dict[str, CaseFiles], files: Sequence[Path]) -> None:
    """Gives cases without labels those of another name in their folder; see the top of this file.

    Args:
      cases: by name in lower case; one that is nothing but such labels is taken out.
      files: among which they were found.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        if _LABEL_FILE.fullmatch(path.name):
            by_folder.setdefault(path.parent, []).append(path)
    with_images = [case for case in cases.values() if set(case.paths) != {SEG}]
    sharing = collections.Counter(case.folder for case in with_images)
    for case in with_images:
        candidates = by_folder.get(case.folder, [])
        if SEG in case.paths or sharing[case.folder] > 1 or len(candidates) != 1:
            continue
        passed_for = VOLUME_FILE.fullmatch(candidates[0].name)
        stray = passed_for["case"].lower() if passed_for else ""
        if stray in cases and set(cases[stray].paths) != {SEG}:
            continue  # they are that case's
        cases.pop(stray, None)
        case.paths[SEG] = str(candidates[0])


def subject_of(case: str) -> str:
    """The person behind a case: since 2023 the last number of a name is the visit's."""
    follow_up = _FOLLOW_UP.fullmatch(case)
    return follow_up[1] if follow_up else case
