"""BraTS NIfTI cases: up to four images and labels per case, named as in any release since 2020.

See `scans.naming` for the names of files and `scans.labels` for the label values. Volumes and
affines are turned to LPS. A case without labels is unlabelled, a case with some images has these.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.scans.case_files import OF_355, group_by_case
from brats_jax.data.scans.labels import scheme_named
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.nifti_file import check_case_size
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.persons import subjects_of
from brats_jax.data.scans.volumes import read_volume
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.unread import unread_labels
from brats_jax.data.sources.volume_case import LabelVolume, case_from_volumes
from brats_jax.errors import BratsError
from brats_jax.runtime import threads
from brats_jax.runtime.text import abridged, plural

_STRICT = "--require_labels refuses such cases"


class NiftiSource:
    """The BraTS NIfTI cases below a folder.

    Args:
      root: the folder, for messages and provenance.
      files: every file below it.
      unreadable: a line for each folder that cannot be listed.
      labels: the label scheme; '' for that of the names.
      options: how the files are read.
    """

    name = "nifti"
    normalisations = NORMALISATIONS

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        unreadable: Mapping[str, str] | None = None,
        labels: str = "",
        options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    ) -> None:
        scheme_named(labels)
        self.root, self.labels, self.options = root, labels, options
        groups = group_by_case(files)
        self._conflicts = dict(unreadable or {}) | {
            name: group.conflict for name, group in groups.items() if group.conflict
        }
        self._cases = {name: group.paths for name, group in groups.items()}
        self._subjects = subjects_of(sorted(self._cases))
        self._schemes = {name: group.schemes for name, group in groups.items()}
        self._of_no_release = sorted(
            name
            for name, group in groups.items()
            if SEG in group.paths and not group.is_of_a_release
        )
        self._other_masks = {name: group.other_masks for name, group in groups.items()}
        self._automatic = sorted(name for name, group in groups.items() if group.automatic)
        bare = {name: paths for name, paths in self._cases.items() if SEG not in paths}
        self._unread = unread_labels(root, bare, files)
        known = {
            path
            for group in groups.values()
            for path in (*group.paths.values(), *group.other_masks)
        }
        self._beside = [
            (str(path.parent), path.name)
            for path in files
            if path.name.lower().endswith((".nii", ".nii.gz")) and str(path) not in known
        ]

    @property
    def description(self) -> dict[str, Any]:
        chosen = {"labels": self.labels.strip().lower()} if self.labels else {}
        if self.options.orientation:
            chosen["orientation"] = self.options.orientation
        return {"folder": str(self.root), **chosen}

    def files_of(self, patient: str) -> list[str]:
        return list(self._cases.get(patient, {}).values())

    def patients(self) -> list[str]:
        return sorted({*self._cases, *self._conflicts})

    def problems(self) -> dict[str, str]:
        """Files that contradict each other, and missing ones that are required: case -> line."""
        found = {name: self._problem(name) for name in self.patients()}
        return {name: problem for name, problem in found.items() if problem}

    def notices(self) -> list[str]:
        """Lines on names that tell no release, and on cases without labels or modalities."""
        by_scheme: dict[str, list[str]] = {}
        for name in self._of_no_release if not self.labels else ():
            by_scheme.setdefault(str(self._schemes[name][0]), []).append(name)
        found = [
            f"the names of {plural(len(names), 'case')} tell no release ({names[0]}): labels are "
            f"read as {scheme}, by the suffixes of the files; give --labels if they are others"
            for scheme, names in by_scheme.items()
        ]
        fit = [name for name in self._cases if not self._problem(name)]
        bare = sorted(name for name in fit if SEG not in self._cases[name])
        odd = [name for name in bare if self._odd_mask(name)]
        partial = sorted(name for name in fit if not self._cases[name].keys() >= {*MODALITIES})
        automatic = [name for name in self._automatic if name in fit]
        if automatic:
            found.append(
                f"{plural(len(automatic), 'case')} of {len(fit)} with automatic labels, not "
                f"corrected by hand: {abridged(automatic)}; the release has corrected ones of some "
                "cases (images_segm)"
            )
        if bare:
            found.append(
                f"{plural(len(bare), 'case')} of {len(fit)} without labels (*_seg.nii.gz), taken "
                f"as unlabelled: {abridged(bare)}; {_STRICT}"
            )
        if odd:
            found.append(
                f"{plural(len(odd), 'case')} of these with another mask in the folder "
                f"({odd[0]}{self._odd_mask(odd[0])}); if it holds the labels of the tumour of "
                "this case, call it CASE_seg.nii.gz"
            )
        if unread := [name for name in bare if name in self._unread]:
            found.append(
                f"{plural(len(unread), 'case')} of these with something else that may be labels "
                f"({unread[0]}; {self._unread[unread[0]]})"
            )
        if partial:
            found.append(
                f"{plural(len(partial), 'case')} of {len(fit)} without some modality, taken as "
                f"having the others: {abridged(partial)}; {_STRICT}"
            )
        if unused := self._unused([*bare, *partial]):
            found.append(
                f"{plural(len(unused), 'NIfTI file')} beside these cases, such as {unused[0]}, "
                "not read: no known name of labels or of a modality; rename it if it is one"
            )
        return found

    def _unused(self, cases: Sequence[str]) -> list[str]:
        """NIfTI files in the folders of cases, or called after one, that nothing reads or names."""
        folders = {str(Path(path).parent) for case in cases for path in self._cases[case].values()}
        names = {case.lower() for case in cases}
        return [
            name
            for folder, name in self._beside
            if folder in folders or name.lower().partition(".nii")[0] in names
        ]

    def _problem(self, case: str) -> str:
        if case in self._conflicts:
            return self._conflicts[case]
        volumes = self._cases[case]
        folder = Path(next(iter(volumes.values()))).parent
        missing = [name for name in MODALITIES if name not in volumes]
        if missing and (self.options.require_labels or len(missing) == len(MODALITIES)):
            return f"{folder} has no {' and no '.join(missing)} volume of case {case}"
        if SEG not in volumes and self.options.require_labels:
            masks = "".join(f"; {line[16:]}" for line in self._notes(case, labelled=False))
            return f"{folder} has no labels (*_seg.nii.gz) for case {case}{masks}"
        return ""

    def _odd_mask(self, case: str) -> str:
        """Of a case without labels: a file that may be meant for them; '' if there is none."""
        others = [Path(path).name for path in self._other_masks[case]]
        if not others:
            return ""
        if OF_355.fullmatch(others[0]):
            return f"; {others[0]} is the name of the labels of BraTS20_Training_355"
        return f"; {others[0]} is no known name of labels"

    def _notes(self, case: str, *, labelled: bool) -> list[str]:
        """What the names of its files tell of the labels of a case."""
        if labelled:
            name = Path(self._cases[case][SEG]).name
            text = f"its labels are automatic, not corrected by hand ({name})"
            return [text] if case in self._automatic else []
        unread = f"; {self._unread[case]}" if case in self._unread else ""
        found = self._odd_mask(case) + unread
        return [f"without labels{found}"] if found else []

    def read(self, patient: str) -> Case:
        if patient in self._conflicts:
            raise BratsError(self._conflicts[patient])
        if problem := self._problem(patient):
            raise BratsError(f"{problem}: fetch what is missing, or leave the case out")
        paths = self._cases[patient]
        check_case_size(paths.values(), self.options.max_case_gb)
        names = [name for name in (*MODALITIES, SEG) if name in paths]
        read = threads.parallel_map(lambda name: read_volume(paths[name], self.options), names)
        volumes = dict(zip(names, read, strict=True))
        labels = None
        if SEG in volumes:
            labels = LabelVolume(volumes.pop(SEG), self._schemes[patient], self.labels)
        files = {name: str(Path(path).relative_to(self.root)) for name, path in paths.items()}
        case = case_from_volumes(
            patient, volumes, labels, self.options, files, self._subjects[patient]
        )
        notes = self._notes(patient, labelled=labels is not None)
        automatic = {"automatic_labels": True} if patient in self._automatic else {}
        return dataclasses.replace(
            case, notes=[*case.notes, *notes], provenance={**case.provenance, **automatic}
        )
