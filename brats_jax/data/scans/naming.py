"""How releases of BraTS name their NIfTI files. A new naming is a new entry of `NAMINGS`.

A file is CASE, a separator, a suffix and .nii or .nii.gz:

    2020   BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz]
    2021   BraTS2021_01476/BraTS2021_01476_{flair,t1,t1ce,t2,seg}.nii.gz
    2023+  BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz

Suffixes are compared without case, and either separator is accepted with every suffix. Case 355
of 2020 stores its labels as W39_1998.09.19_Segm.nii: see `case_files`.
"""

import dataclasses
import re
from collections.abc import Mapping

from brats_jax.data.modalities import MODALITIES

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

# Every suffix of a modality in any naming -> the modality.
_MODALITY_OF = {
    suffix: modality for naming in NAMINGS for modality, suffix in naming.suffixes.items()
}
_FOUR_IS_NOT_ET = {
    suffix for naming in NAMINGS if not naming.four_is_et for suffix in naming.suffixes.values()
}
_VOLUME_FILE = re.compile(
    rf"(?P<case>.+)[_-](?P<suffix>{'|'.join(_MODALITY_OF)}|{SEG}|tumou?r_segmentation)"
    r"\.nii(?:\.gz)?",
    re.IGNORECASE | re.DOTALL,  # a name may hold a line end
)
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
    """

    case: str
    volume: str
    four_is_et: bool


def parse_volume_name(name: str) -> VolumeName | None:
    """Takes a file's name apart; None if no release names a volume like that."""
    if upenn := UPENN_LABELS.fullmatch(name):
        return VolumeName(upenn["case"], SEG, four_is_et=True)
    match = _VOLUME_FILE.fullmatch(name)
    if match is None:
        return None
    suffix, case = match["suffix"].lower(), match["case"]
    if suffix == "flair" and re.search(r".[_-]t2$", case, re.IGNORECASE):
        case = case[:-3]  # CASE_t2_flair.nii.gz
    return VolumeName(case, _MODALITY_OF.get(suffix, SEG), four_is_et=suffix not in _FOUR_IS_NOT_ET)
