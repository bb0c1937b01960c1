"""Names of NIfTI files in the releases of BraTS. A new naming is a new entry of `NAMINGS`.

A file is CASE, a separator, a suffix and .nii or .nii.gz:

    2020   BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz]
    2021   BraTS2021_01476/BraTS2021_01476_{flair,t1,t1ce,t2,seg}.nii.gz
    2023+  BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz

Suffixes are compared without case, and either separator is accepted with every suffix. So are other
spellings of the modalities (T1w, T1_POSTCONTRAST, post_T1, ...; see `modalities`). Case 355 of 2020
stores its labels as W39_1998.09.19_Segm.nii: see `case_files`.
"""

import dataclasses
import re
from collections.abc import Container, Mapping

from brats_jax.data.modalities import MODALITIES, modality_of

SEG = "seg"  # suffix of the labels


@dataclasses.dataclass(frozen=True)
class Naming:
    """The file names of one or more releases.

    Attributes:
      releases: in words, for messages.
      separator: between case and suffix.
      suffixes: the lower-case suffix of each modality.
      four_is_et: whether label 4 is ET. Where it is not, 4 is another tissue.
    """

    releases: str
    separator: str
    suffixes: Mapping[str, str]
    four_is_et: bool

    @property
    def example(self) -> str:
        """'CASE_{t1,t1ce,t2,flair,seg}.nii.gz'."""
        return f"CASE{self.separator}{{{','.join([*self.suffixes.values(), SEG])}}}.nii.gz"


UNTIL_2021 = Naming(
    "BraTS 2020 and 2021", "_", {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair"}, True
)
SINCE_2023 = Naming(
    "BraTS 2023 and later", "-", {"t1": "t1n", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}, False
)
OURS = Naming("names of this program", "_", {name: name for name in MODALITIES}, True)
NAMINGS = (UNTIL_2021, SINCE_2023, OURS)

_FOUR_IS_NOT_ET = {
    suffix for naming in NAMINGS if not naming.four_is_et for suffix in naming.suffixes.values()
}
_SUFFIXES = {suffix for naming in NAMINGS for suffix in naming.suffixes.values()}
_NIFTI_NAME = re.compile(r"(?P<stem>.+)\.nii(?:\.gz)?", re.IGNORECASE | re.DOTALL)
_LABELS = re.compile(
    rf"(?P<case>.+)[_-](?:{SEG}|tumou?r_segmentation)", re.IGNORECASE | re.DOTALL
)  # a name may hold a line end
# Words before T1 that tell its contrast or the visit of the patient.
_VISIT = re.compile(r"(?P<word>pre|post)[\s._-]+t1\w*", re.IGNORECASE)
# Words on contrast elsewhere in a name; some of them are also names of visits or of centres.
_CONTRAST_WORD = re.compile(
    r"(?<!no)(?<!non)(?<!pre)(?<!without)(?<![a-z])(?P<weak>post|ce|gd)(?![a-z])|(?<!no)(?<!non)"
    r"(?<!pre)(?<!without)(?P<strong>contrast|gadolin|gado|gad(?![a-z]))"
)
_ENTITY = re.compile(r"(?P<case>.+)[_-](?:ce|acq|desc|rec)", re.IGNORECASE | re.DOTALL)  # of BIDS
_NO_SEPARATOR = "there is no '_' or '-' before a modality"
UPENN_LABELS = re.compile(
    r"(?P<case>UPENN-GBM-\d+_\d+)_(?P<automated>automated_approx_)?segm\.nii(?:\.gz)?",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class VolumeName:
    """The name of a volume's file, taken apart.

    Attributes:
      case: the name of the case, as spelt in the file's name.
      volume: the modality, or `SEG`.
      four_is_et: whether label 4 of a case with this file is ET.
      visit: of CASE_pre_T1 and CASE_post_T1, which may be T1 of another visit: 'CASE_pre' and
        'CASE_post'; else empty.
    """

    case: str
    volume: str
    four_is_et: bool
    visit: str = ""


def parse_volume_name(name: str) -> VolumeName | None:
    """Takes a file's name apart; None if no release names a volume like that."""
    if upenn := UPENN_LABELS.fullmatch(name):
        return VolumeName(upenn["case"], SEG, four_is_et=True)
    match = _NIFTI_NAME.fullmatch(name)
    if match is None:
        return None
    stem = match["stem"]
    if labels := _LABELS.fullmatch(stem):
        return VolumeName(labels["case"], SEG, four_is_et=True)
    if modality_of(stem):  # of no case
        return None
    # The longest ending that names a modality: T2_FLAIR before FLAIR, post_T1 before T1.
    for separator in re.finditer(r"[\s._-]+", stem):
        case, ending = stem[: separator.start()], stem[separator.end() :]
        volume = modality_of(ending) if case else None
        is_plain = re.fullmatch(r"[_-]+", separator[0]) is not None
        if volume is None or not (is_plain or re.search(r"[\s._-]", ending)):
            continue
        four_is_et = ending.lower() not in _FOUR_IS_NOT_ET
        visit = ""
        if ending.lower() not in _SUFFIXES and (entity := _ENTITY.fullmatch(case)):
            case = entity["case"]
        elif worded := _VISIT.fullmatch(ending):
            visit = f"{case}{separator[0]}{worded['word']}"
        return VolumeName(case, volume, four_is_et, visit)
    return None


def stated_volume(name: str) -> str | None:
    """The modality or `SEG` that a file's name states without doubt; None if there is none."""
    if parsed := parse_volume_name(name):
        in_doubt = parsed.visit or (
            parsed.volume == "t1" and hides_contrast(parsed.case.lower(), ())
        )
        return None if in_doubt else parsed.volume
    match = _NIFTI_NAME.fullmatch(name)
    return modality_of(match["stem"]) if match else None


def unknown_part(name: str) -> str:
    """Why a file's name is that of no image, in words; '' if it is one."""
    if parsed := parse_volume_name(name):
        end = name[len(parsed.case) + 1 :].split(".")[0]
        return f"'{end}' at its end names labels, not an image" if parsed.volume == SEG else ""
    match = _NIFTI_NAME.fullmatch(name)
    if match is None:
        return "it is no .nii or .nii.gz file"
    if modality_of(match["stem"]):
        return f"there is no case before '{match['stem']}'"
    *case, end = re.split(r"[_-]+", match["stem"])
    return f"'{end}' at its end names no modality" if case else _NO_SEPARATOR


def hides_contrast(case: str, known: Container[str]) -> bool:
    """Whether the name of a case of T1 alone may tell that it is T1Gd.

    Args:
      case: in lower case.
      known: the names of all cases, in lower case; a case named after one of them may be its T1Gd.
    """
    bare = re.sub(r"(no|non|pre|without)[\s._-]+(?=contrast|gad)", r"\1", case)
    for word in _CONTRAST_WORD.finditer(bare):
        before = [bare[: sign.start()] for sign in re.finditer(r"[\s._-]+", bare[: word.end()])]
        if word["strong"] or any(name in known for name in before):
            return True
    return False
