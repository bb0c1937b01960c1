"""Which files belong to which case, by the names of any BraTS release since 2020.

    2020   BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz]
    2021   BraTS2021_01476/BraTS2021_01476_{flair,t1,t1ce,t2,seg}.nii.gz
    2023+  BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz

Spelling varies in upper and lower case.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.modalities import ALIASES

VOLUME_FILE = re.compile(
    rf"(?P<case>.+)[_-](?P<what>{'|'.join(ALIASES)}|seg)\.nii(?:\.gz)?", re.IGNORECASE
)
SEG = "seg"
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
    return {case.name: case for case in cases.values()}


def subject_of(case: str) -> str:
    """The person behind a case: since 2023 the last number of a name is the visit's."""
    follow_up = _FOLLOW_UP.fullmatch(case)
    return follow_up[1] if follow_up else case
