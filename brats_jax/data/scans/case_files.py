"""Groups NIfTI files by case. `naming` lists the names of the releases.

The labels of case 355 of BraTS 2020 have another name (W39_1998.09.19_Segm.nii). A case without
labels of the usual name takes this one, or labels_seg.nii.gz and the like, if its folder holds no
other case; the former only if it is no other case of a release. No other file is taken for labels.
Each volume may lie in a folder of its own, see `volume_of`. The labels of UPENN-GBM lie in other
folders than its images: automatic ones of every case, and ones corrected by hand of some cases.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from brats_jax.data.modalities import canonical_names
from brats_jax.data.scans.labels import LabelScheme, is_of_a_release, schemes_of
from brats_jax.data.scans.naming import (
    SEG,
    UPENN_LABELS,
    VolumeName,
    hides_contrast,
    parse_volume_name,
)

_NIFTI_FILE = re.compile(r".*\.nii(?:\.gz)?", re.IGNORECASE | re.DOTALL)
_ONE = "move one of them out of the folder"
# Labels that are not called after their case. Other files whose names hold "seg" are masks of the
# brain or of its tissues as often as labels of a tumour.
_LABEL_WORD = r"(?:labels?|corrected|final|manual|gt|truth|ground_?truth)"
OF_355 = re.compile(r"W39_1998\.09\.19_Segm\.nii(?:\.gz)?", re.IGNORECASE)
_OF_A_RELEASE = re.compile(r"BraTS.*\d", re.IGNORECASE | re.DOTALL)
_AUTOMATIC = re.compile(r"auto", re.IGNORECASE)  # the folder automated_segm
_OTHER_MASK = re.compile(r".*seg.*", re.IGNORECASE | re.DOTALL)


@dataclasses.dataclass
class CaseFiles:
    """The files of one case.

    Attributes:
      name: of the case, as spelt in its first file.
      folder: of its first file.
      paths: by modality, and by `SEG` for the labels.
      four_is_et: whether label 4 is ET, by the names of its files.
      conflict: one line where two files or folders claim the same volume or case; else empty.
      other_masks: files in its folder with 'seg' in their names that are not its labels.
      automatic: whether its labels are those of a program, not corrected by hand.
      channels: the modality of each channel, where one file holds all of them; else empty.
    """

    name: str
    folder: Path
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    four_is_et: bool = True
    conflict: str = ""
    other_masks: list[str] = dataclasses.field(default_factory=list)
    automatic: bool = False
    channels: Sequence[str | None] = ()

    @property
    def schemes(self) -> list[LabelScheme]:
        """The label schemes of the releases that have such names."""
        return schemes_of(self.name, self.folder, four_is_et=self.four_is_et)

    @property
    def is_of_a_release(self) -> bool:
        """Whether its name, or that of a folder, tells its release."""
        return is_of_a_release(self.name, self.folder)


def volume_of(path: Path) -> tuple[VolumeName, Path] | None:
    """What a file is by its name, and the folder of its case; None for other files.

    A folder named like a volume, as a browser unpacks one from Kaggle, names the file in it:
    CASE/CASE_t1.nii/00000057_brain_t1.nii is T1 of CASE, and the folder is CASE.
    """
    if _NIFTI_FILE.fullmatch(path.name) is None:
        return None
    of_folder = parse_volume_name(path.parent.name)
    if of_folder is not None:
        return of_folder, path.parent.parent
    name = parse_volume_name(path.name)
    return None if name is None else (name, path.parent)


def group_by_case(files: Sequence[Path], *, labels: bool = True) -> dict[str, CaseFiles]:
    """Groups files by case.

    Args:
      files: any files; those that are not volumes of a case are ignored.
      labels: whether to include label files.

    Returns:
      The cases by name.
    """
    cases: dict[str, CaseFiles] = {}
    folders: dict[str, dict[Path, list[Path]]] = {}
    unclear: dict[str, str] = {}
    for path, (name, folder) in _settled(files, unclear):
        if not labels and name.volume == SEG:
            continue
        if UPENN_LABELS.fullmatch(path.name):
            continue  # see `_assign_upenn_labels`
        case = cases.setdefault(name.case.lower(), CaseFiles(name.case, folder))
        case.four_is_et &= name.four_is_et
        folders.setdefault(name.case.lower(), {}).setdefault(folder, []).append(path)
        other = case.paths.setdefault(name.volume, str(path))
        own = parse_volume_name(path.name)
        if not case.conflict and other != str(path) and case.folder == folder:
            case.conflict = (
                f"{path} and {other} are the same volume of the case {case.name}: {_ONE}"
            )
        elif not case.conflict and own is not None and own.volume != name.volume and not own.visit:
            case.conflict = (
                f"{path} is {own.volume} by its name, and {name.volume} by that of its folder: "
                "rename the wrong one"
            )
    for key, of_case in folders.items():
        if len(of_case) > 1 and not cases[key].conflict:
            _join_folders(cases[key], of_case)
    for key, case in cases.items():
        if set(case.paths) == {"t1"} and hides_contrast(key, cases):
            unclear[key] = (
                f"{case.paths['t1']} is T1 by the end of its name, and has a word on contrast: "
                f"call it {_t1_or_t1gd('CASE')}"
            )
        case.conflict = case.conflict or unclear.get(key, "")
    if labels:
        _assign_upenn_labels(cases, files)
        _assign_odd_labels(cases, files)
    return {case.name: case for case in cases.values()}


def _settled(
    files: Sequence[Path], unclear: dict[str, str]
) -> list[tuple[Path, tuple[VolumeName, Path]]]:
    """Volumes by their names; pre_T1 and post_T1 are T1 and T1Gd, or T1 of two visits.

    They are of visits where other volumes have the same word: CASE_post_T1, CASE_post_T2.

    Args:
      files: any files.
      unclear: gets a line for cases of which nothing tells that, by name in lower case.
    """
    found = [(path, volume) for path in files if (volume := volume_of(path)) is not None]
    volumes: dict[str, set[str]] = {}
    for _, (name, _) in found:
        if not name.visit:
            volumes.setdefault(name.case.lower(), set()).add(name.volume)
    settled = []
    for path, (name, folder) in found:
        if name.visit:
            before = f"{name.visit[:-4]}pre" if name.visit.lower().endswith("post") else ""
            others = volumes.get(name.visit.lower(), set())
            of_first = volumes.get(before.lower(), set())
            if others:
                if before and "t1gd" not in others and not of_first:
                    unclear[name.visit.lower()] = (
                        f"{path} may be T1Gd, or T1 of another visit: call it "
                        f"{_t1_or_t1gd(f'{name.case}_time2')}, and the other volumes of its case "
                        "likewise"
                    )
                name = dataclasses.replace(name, case=name.visit, volume="t1")
            elif of_first and name.case.lower() not in volumes:
                name = dataclasses.replace(name, case=before)
        settled.append((path, (name, folder)))
    return settled


def _t1_or_t1gd(case: str) -> str:
    return f"{case}_t1gd.nii.gz if it is T1Gd, {case}_t1.nii.gz if it is T1"


def _join_folders(case: CaseFiles, folders: Mapping[Path, list[Path]]) -> None:
    """Takes a folder for each volume as one case; other cases in several folders are refused."""
    bases = {
        folder.parent if len(paths) == 1 and _is_named_after(folder, paths[0]) else folder
        for folder, paths in folders.items()
    }
    if len(bases) == 1:
        case.folder = bases.pop()
        return
    other, one = list(folders)[:2]
    case.conflict = (
        f"{one} and {other} both hold the case {case.name}: put its volumes into one folder, or "
        "move one copy out of the folder given"
    )


def _is_named_after(folder: Path, path: Path) -> bool:
    """Whether a folder is called as the volume in it: t1/A_t1.nii.gz, or A_t1/A_t1.nii.gz."""
    name, own = parse_volume_name(path.name), parse_volume_name(f"{folder.name}.nii")
    if name is None:
        return False
    return name.volume in (canonical_names(folder.name), own.volume if own else "")


def files_near(path: Path) -> list[Path]:
    """The files of a volume's folder, or of the folders of all volumes of its case; sorted."""
    found = volume_of(path)
    if found is None or found[1] == path.parent:
        return sorted(path.parent.iterdir())
    folders = [one for one in found[1].iterdir() if one.is_dir()]
    return sorted(file for folder in [found[1], *folders] for file in folder.iterdir())


def _assign_upenn_labels(cases: dict[str, CaseFiles], files: Sequence[Path]) -> None:
    """Gives cases of UPENN-GBM their labels, those corrected by hand before automatic ones.

    Args:
      cases: by name in lower case; cases of labels alone are added.
      files: all files.
    """
    found: dict[str, dict[bool, list[Path]]] = {}
    for path in files:
        if match := UPENN_LABELS.fullmatch(path.name):
            of_case = found.setdefault(match["case"].lower(), {})
            automatic = match["automated"] or _AUTOMATIC.match(path.parent.name)
            of_case.setdefault(bool(automatic), []).append(path)
            cases.setdefault(match["case"].lower(), CaseFiles(match["case"], path.parent))
    for key, of_case in found.items():
        best = of_case.get(False) or of_case[True]
        other = cases[key].paths.setdefault(SEG, str(best[0]))
        cases[key].automatic = other == str(best[0]) and False not in of_case
        twice = [str(path) for path in best if str(path) != other]
        if twice and not cases[key].conflict:
            cases[
                key
            ].conflict = (
                f"{twice[0]} and {other} are the same volume of the case {cases[key].name}: {_ONE}"
            )


def _assign_odd_labels(cases: dict[str, CaseFiles], files: Sequence[Path]) -> None:
    """Gives cases without labels the oddly named labels in their folder.

    Args:
      cases: by name in lower case. A case that consists of such labels alone is removed.
      files: all files.
    """
    in_folder: dict[Path, list[Path]] = {}
    for path in files:
        if _NIFTI_FILE.fullmatch(path.name) and _OTHER_MASK.fullmatch(path.name):
            in_folder.setdefault(path.parent, []).append(path)
    with_images = [case for case in cases.values() if set(case.paths) != {SEG}]
    cases_in = collections.Counter(case.folder for case in with_images)
    for case in with_images:
        others = in_folder.get(case.folder, [])
        case.other_masks = [str(path) for path in others if str(path) not in case.paths.values()]
        candidates = [path for path in others if _is_odd_label(path.name, case.name)]
        for path in others:  # A_brain_seg.nii.gz is a mask of A, and makes no case A_brain
            parsed = parse_volume_name(path.name)
            key = parsed.case.lower() if parsed else ""
            is_other = key != case.name.lower() and key.startswith(case.name.lower())
            if is_other and key in cases and set(cases[key].paths) == {SEG}:
                del cases[key]
        if SEG in case.paths or cases_in[case.folder] > 1 or len(candidates) != 1:
            continue
        parsed = parse_volume_name(candidates[0].name)
        named_after = parsed.case.lower() if parsed else ""
        if named_after in cases and set(cases[named_after].paths) != {SEG}:
            continue  # the labels belong to that case, whose images are in another folder
        cases.pop(named_after, None)
        case.paths[SEG] = str(candidates[0])


def _is_odd_label(name: str, case: str) -> bool:
    """Whether a file that is not called CASE_seg.nii.gz is known to hold labels of a tumour."""
    if OF_355.fullmatch(name):
        return case.endswith("355") or _OF_A_RELEASE.fullmatch(case) is None
    stem = rf"(?:{re.escape(case)}[_-])?{_LABEL_WORD}[_-]seg"
    return re.fullmatch(rf"(?:{stem})\.nii(?:\.gz)?", name, re.IGNORECASE) is not None
