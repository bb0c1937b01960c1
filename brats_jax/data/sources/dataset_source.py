"""The base class of sources with a dataset.json: the Medical Segmentation Decathlon and nnU-Net."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASS_LABELS, DISPLAY_NAMES, MODALITIES
from brats_jax.data.normalise import NORMALISATIONS, brain_mask
from brats_jax.data.scans.labels import scheme_named
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.nifti_file import check_case_size
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.persons import subjects_of
from brats_jax.data.scans.volumes import Volume, read_volume
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.dataset_folder import DatasetFolder, FolderCase
from brats_jax.data.sources.dataset_json import read_dataset_json
from brats_jax.data.sources.label_names import NamedLabels
from brats_jax.data.sources.unread import unread_labels
from brats_jax.data.sources.volume_case import LabelVolume, case_from_volumes
from brats_jax.data.whole_volumes import RELEASE_SLICES
from brats_jax.errors import BratsError
from brats_jax.runtime.text import plural

_RELEASE_SHAPE = (240, 240)
_FRONTMOST = 115  # a brain that is turned has its centre at 101 to 109


class DatasetSource(abc.ABC):
    """The cases of a folder with a dataset.json.

    Args:
      root: the folder given, for messages and provenance.
      folder: the files.
      unreadable: a line for each folder that cannot be listed.
      labels: the label scheme; '' for the names of dataset.json.
      options: how the files are read.

    Raises:
      BratsError: dataset.json is missing or unfit, or its names do not tell the labels.
    """

    name = ""
    normalisations = NORMALISATIONS

    def __init__(
        self,
        root: Path,
        folder: DatasetFolder,
        unreadable: Mapping[str, str] | None = None,
        labels: str = "",
        options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    ) -> None:
        self.root, self.options, self.labels = root, options, labels
        self._folder = folder
        self._unreadable = dict(unreadable or {})
        self.json = read_dataset_json(folder.description)
        if not folder.cases:
            raise BratsError(
                f"{folder.path} holds no .nii or .nii.gz files in imagesTr or imagesTs "
                f"({folder.left_out[0].name}, ...): convert them to NIfTI"
            )
        chosen = scheme_named(labels)
        self._named: NamedLabels | None = None
        if chosen is not None:
            self._named = NamedLabels(chosen)
        elif any(case.labels for case in folder.cases.values()):
            self._named = self.json.named_labels()
        self._subjects = subjects_of(sorted(folder.cases))
        bare = {
            name: {str(channel): path for channel, path in case.images.items()}
            for name, case in folder.cases.items()
            if not case.labels
        }
        self._unread = unread_labels(folder.path, bare, folder.left_out)

    @property
    def description(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "folder": str(self._folder.path),
            "channels": [name or "-" for name in self.json.modalities],
        }
        if self._named is not None:
            facts["labels"] = str(self._named.scheme)
        if self.options.orientation:
            facts["orientation"] = self.options.orientation
        return facts

    def patients(self) -> list[str]:
        return sorted({*self._folder.cases, *self._unreadable})

    def files_of(self, patient: str) -> list[str]:
        case = self._folder.cases.get(patient)
        if case is None:
            return []
        return [*case.images.values(), *([case.labels] if case.labels else [])]

    def problems(self) -> dict[str, str]:
        """Labels without images, and files that contradict each other: case -> one line."""
        found = {name: self._problem(name) for name in self.patients()}
        return {name: problem for name, problem in found.items() if problem}

    def _problem(self, patient: str) -> str:
        if patient in self._unreadable:
            return self._unreadable[patient]
        case = self._folder.cases[patient]
        if case.conflict:
            return case.conflict
        if not case.images:
            return f"{case.labels} has no image"
        missing = self.missing(case)
        if len(missing) == len(MODALITIES):
            return f"{next(iter(case.images.values()))}: case {patient} has no modality of BraTS"
        if self.options.require_labels and missing:
            return f"{self._folder.path} has no {' and no '.join(missing)} volume of {patient}"
        if self.options.require_labels and not self._has_classes(case):
            return f"{self._folder.path} has no labels of the classes for case {patient}"
        return self.misfit(case)

    def _has_classes(self, case: FolderCase) -> bool:
        return bool(case.labels and self._named and self._named.kind == CLASS_LABELS)

    @abc.abstractmethod
    def missing(self, case: FolderCase) -> list[str]:
        """The modalities that a case lacks, by its files."""

    def misfit(self, case: FolderCase) -> str:
        """Why the files do not fit dataset.json, in one line; '' if they do."""
        return ""

    @abc.abstractmethod
    def volumes(self, case: FolderCase) -> dict[str, Volume]:
        """Reads the images of a case, by modality."""

    def notices(self) -> list[str]:
        """Channels and files that are left out, and cases that are listed but not here."""
        found = []
        others = [
            f"{k} ({name})"
            for k, (name, modality) in enumerate(
                zip(self.json.channels, self.json.modalities, strict=True)
            )
            if modality is None
        ]
        if others:
            found.append(
                f"{plural(len(others), 'channel')} of {self.json.path.name} left out, which "
                f"{'is' if len(others) == 1 else 'are'} none of "
                f"{', '.join(DISPLAY_NAMES.values())}: {', '.join(others)[:200]}"
            )
        if left_out := self._folder.left_out:
            found.append(f"{plural(len(left_out), 'file')} left out ({left_out[0].name})")
        bare = sorted(name for name, case in self._folder.cases.items() if not case.labels)
        if bare:
            found.append(
                f"{plural(len(bare), 'case')} of {len(self._folder.cases)} without labels, taken "
                f"as unlabelled ({_first(bare)})"
            )
        if unread := [name for name in bare if name in self._unread]:
            found.append(
                f"{plural(len(unread), 'case')} of these with something else that may be labels "
                f"({unread[0]}; {self._unread[unread[0]]})"
            )
        partial = sorted(
            name
            for name, case in self._folder.cases.items()
            if not self._problem(name) and self.missing(case)
        )
        if partial:
            found.append(
                f"{plural(len(partial), 'case')} of {len(self._folder.cases)} without some "
                f"modality, taken as having the others ({_first(partial)})"
            )
        listed = self._listed()
        if absent := sorted(listed - self._folder.cases.keys()):
            found.append(
                f"{plural(len(absent), 'case')} of {len(listed)} listed in {self.json.path.name} "
                f"not here ({_first(absent)})"
            )
        return found

    def _listed(self) -> set[str]:
        """The cases that dataset.json lists."""
        names = set()
        for part in ("training", "test"):
            entries = self.json.document.get(part)
            for entry in entries if isinstance(entries, list) else []:
                image = entry.get("image") if isinstance(entry, dict) else entry
                if isinstance(image, str):
                    name = Path(image).name
                    names.add(name.removesuffix(".gz").removesuffix(".nii"))
        return names

    def read(self, patient: str) -> Case:
        if problem := self._problem(patient):
            raise BratsError(f"{problem}: fetch what is missing, or leave the case out")
        case = self._folder.cases[patient]
        paths = self.files_of(patient)
        check_case_size(paths, self.options.max_case_gb)
        volumes = self.volumes(case)
        labels = None
        if case.labels and self._named is not None:
            volume = read_volume(case.labels, self.options)
            self._check_all_labelled(volume)
            labels = LabelVolume(volume, [self._named.scheme], self.labels, self._named.kind)
        keys = [SEG if path == case.labels else Path(path).name for path in paths]
        files = {
            key: str(Path(path).relative_to(self.root))
            for key, path in zip(keys, paths, strict=True)
        }
        found = case_from_volumes(
            patient, volumes, labels, self.options, files, self._subjects[patient]
        )
        _check_front(found.images, paths[0])
        if patient in self._unread:
            notes = [*found.notes, f"without labels; {self._unread[patient]}"]
            return dataclasses.replace(found, notes=notes)
        return found

    def _check_all_labelled(self, labels: Volume) -> None:
        """Refuses labels with voxels that nobody has labelled: they are no background."""
        ignored = None if self._named is None else self._named.ignored
        count = 0 if ignored is None else int((labels.voxels == ignored).sum())
        if count:
            raise BratsError(
                f"{labels.path} has {count:,} voxels of label {ignored}, which "
                f"{self.json.path.name} calls 'ignore', so that it is labelled in part: take its "
                "labels away, so that the case is unlabelled, or leave the case out"
            )


def _check_front(images: np.ndarray, path: str) -> None:
    """Refuses a brain in the space of BraTS that lies back to front.

    These data were converted, and a converter may lose the axes. In 20 cases of BraTS 2018 and 2021
    the centre of the brain is at 130 to 138 of the 240 pixels from the front.
    """
    if images.shape[:3] != (RELEASE_SLICES, *_RELEASE_SHAPE):
        return
    area = brain_mask(images).sum(axis=(0, 1), dtype=np.int64)
    centre = float(area @ np.arange(len(area)) / max(1, area.sum()))
    if centre < _FRONTMOST:
        raise BratsError(
            f"{path}: read by its header, the brain lies back to front (its centre is at "
            f"{centre:.0f} of 240 pixels from the front, in BraTS at 130 to 138): give "
            "--orientation=LPS if the header holds no axes (an identity), or repair it"
        )


def _first(names: Sequence[str]) -> str:
    return f"{names[0]}{', ...' if len(names) > 1 else ''}"
