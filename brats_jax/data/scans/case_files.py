"""Groups NIfTI files by case. `naming` lists the names of the releases.

The labels of case 355 of BraTS 2020 have another name (W39_1998.09.19_Segm.nii). Therefore a case
without labels of the usual name takes the only *seg* file of its folder, if the folder holds no
other case.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from brats_jax.data.scans.naming import SEG, parse_volume_name

_LABEL_FILE = re.compile(r".*seg.*\.nii(?:\.gz)?", re.IGNORECASE)


@dataclasses.dataclass
class CaseFiles:
    """The files of one case.

    Attributes:
      name: of the case, as spelt in its first file.
      folder: of its first file.
      paths: by modality, and by `SEG` for the labels.
      four_is_et: whether label 4 is ET, by the names of its files.
      conflict: one line where two files or folders claim the same volume or case; else empty.
    """

    name: str
    folder: Path
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    four_is_et: bool = True
    conflict: str = ""


def group_by_case(files: Sequence[Path], *, labels: bool = True) -> dict[str, CaseFiles]:
    """Groups files by case.

    Args:
      files: any files; those that are not volumes of a case are ignored.
      labels: whether to include label files.

    Returns:
      The cases by name.
    """
    cases: dict[str, CaseFiles] = {}
    for path in files:
        name = parse_volume_name(path.name)
        if name is None or (not labels and name.volume == SEG):
            continue
        case = cases.setdefault(name.case.lower(), CaseFiles(name.case, path.parent))
        case.four_is_et &= name.four_is_et
        other = case.paths.setdefault(name.volume, str(path))
        if case.conflict:
            continue
        if case.folder != path.parent:
            case.conflict = (
                f"{path.parent} and {case.folder} both hold the case {case.name}: keep one of them"
            )
        elif other != str(path):
            case.conflict = f"{path} and {other} are the same volume: keep one of them"
    if labels:
        _assign_odd_labels(cases, files)
    return {case.name: case for case in cases.values()}


def _assign_odd_labels(cases: dict[str, CaseFiles], files: Sequence[Path]) -> None:
    """Gives cases without labels the oddly named labels in their folder.

    Args:
      cases: by name in lower case. A case that consists of such labels alone is removed.
      files: all files.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        if _LABEL_FILE.fullmatch(path.name):
            by_folder.setdefault(path.parent, []).append(path)
    with_images = [case for case in cases.values() if set(case.paths) != {SEG}]
    cases_in = collections.Counter(case.folder for case in with_images)
    for case in with_images:
        candidates = by_folder.get(case.folder, [])
        if SEG in case.paths or cases_in[case.folder] > 1 or len(candidates) != 1:
            continue
        parsed = parse_volume_name(candidates[0].name)
        named_after = parsed.case.lower() if parsed else ""
        if named_after in cases and set(cases[named_after].paths) != {SEG}:
            continue  # the labels belong to that case, whose images are in another folder
        cases.pop(named_after, None)
        case.paths[SEG] = str(candidates[0])
