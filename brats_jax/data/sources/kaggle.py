"""The Kaggle slice data set (awsaf49/brats2020-training-data): one HDF5 file per 2D slice.

    volume_{1..369}_slice_{0..154}.h5    image float64[240, 240, 4], mask uint8[240, 240, 3]

Images are z-scored per slice and channel over all pixels. Masks are NCR/NET, ED and ET, disjoint.
The channel order is not documented. Compared with the NIfTI originals it is FLAIR, T1, T1ce, T2,
although many public loaders assume T1, T1Gd, T2, FLAIR. The files have no affine; the original
volumes are LPS at 1 mm.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES, canonical_name
from brats_jax.data.scans.blank_slices import note_blank_slices
from brats_jax.data.scans.options import MAX_CASE_GB
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.slice_file import SLICE_FILE, read_slice
from brats_jax.data.sources.slice_tables import check_row, patient_name, read_grades, read_tables
from brats_jax.data.whole_volumes import RELEASE_SLICES, note_on_holes
from brats_jax.errors import BratsError
from brats_jax.runtime.text import plural

CHANNEL_ORDER = ("flair", "t1", "t1gd", "t2")
_LARGEST_SLICE = 2**15 - 1  # the index of a store has 16 bits
_LARGEST_VOLUME = 10**9


class KaggleSource:
    """The Kaggle slice files below a folder, or a part of them.

    Args:
      root: the folder, for messages and provenance.
      files: every file below it.
      channel_order: the modality of each channel on disk; None for the true order above.
      unreadable: a line for each folder that cannot be listed.
      max_case_gb: the largest volume in memory.

    Raises:
      BratsError: a channel order without each modality once, or metadata tables that cannot be
        read or contradict each other.
    """

    name = "kaggle"
    normalisations = ("slice",)

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        channel_order: Sequence[str] | None = None,
        unreadable: Mapping[str, str] | None = None,
        max_case_gb: float = MAX_CASE_GB,
    ) -> None:
        self.root = root
        self.channel_order = _checked_order(channel_order or CHANNEL_ORDER)
        self._max_case_gb = max_case_gb
        self._slices: dict[str, dict[int, str]] = {}
        self._problems: dict[str, str] = dict(unreadable or {})
        self._others: list[str] = []
        for path in files:
            match = SLICE_FILE.fullmatch(path.name)
            if match is not None:
                self._add(path, int(match[1]), int(match[2]))
            elif path.suffix.lower() in (".h5", ".hdf5"):
                self._others.append(path.name)
        tables = read_tables(files)
        self._rows, self._tables = tables.rows, tables.names
        for patient, problem in tables.problems.items():
            if patient in self._slices:
                self._problems.setdefault(patient, problem)
        self._grades = read_grades(files)

    def _add(self, path: Path, volume: int, number: int) -> None:
        patient = patient_name(volume)
        if not (0 <= volume <= _LARGEST_VOLUME and 0 <= number <= _LARGEST_SLICE):
            self._problems.setdefault(
                patient[:60],
                f"{path}: no volume of the release has a slice of this number (they are 0 to "
                f"{RELEASE_SLICES - 1}): rename the file, or take it out of the folder",
            )
            return
        other = self._slices.setdefault(patient, {}).setdefault(number, str(path))
        if other != str(path):
            self._problems.setdefault(
                patient,
                f"{path} and {other} are the same slice: move one of them out of the folder",
            )

    @property
    def description(self) -> dict[str, Any]:
        return {"folder": str(self.root), "channel_order": list(self.channel_order)}

    def patients(self) -> list[str]:
        return sorted({*self._slices, *self._problems})

    def problems(self) -> dict[str, str]:
        """Slices of impossible numbers or in two files, and bad rows: patient -> one line."""
        return dict(self._problems)

    def files_of(self, patient: str) -> list[str]:
        return list(self._slices.get(patient, {}).values())

    def notices(self) -> list[str]:
        """Differences between the files and the metadata, one line each."""
        notices = []
        if self._others:
            notices.append(
                f"{plural(len(self._others), 'HDF5 file')} not called volume_N_slice_M.h5: left "
                f"out ({self._others[0]})"
            )
        if not self._rows:
            return [*notices, "no metadata table: labels are not cross-checked"]
        absent = sorted(set(self._rows) - set(self._slices))
        lacking = extra = 0
        for patient, slices in self._slices.items():
            listed = self._rows.get(patient, {}).keys()
            lacking += len(listed - slices.keys())
            extra += len(slices.keys() - listed)
        tables = ", ".join(sorted(self._tables))
        notices.append(f"labels are cross-checked with {tables}")
        if absent:
            notices.append(f"{len(absent)} volumes listed in {tables} are not here")
        if lacking:
            notices.append(f"{lacking} slices of volumes that are here are listed but not here")
        if extra:
            notices.append(f"{extra} slice files are not listed in {tables}")
        return notices

    def read(self, patient: str) -> Case:
        if patient in self._problems:
            raise BratsError(self._problems[patient])
        slices = self._slices[patient]
        numbers = sorted(slices)
        order = [self.channel_order.index(modality) for modality in MODALITIES]
        images: np.ndarray | None = None
        labels: np.ndarray | None = None
        filters: set[str] = set()
        for position, number in enumerate(numbers):
            path = slices[number]
            image, mask, compression = read_slice(path, len(numbers), self._max_case_gb)
            filters.add(compression)
            if images is None or labels is None:
                shape = (len(numbers), *mask.shape[:2])
                images = np.empty((*shape, len(MODALITIES)), dtype=np.float64)
                labels = np.empty(shape, dtype=np.uint8)
            if mask.shape[:2] != labels.shape[1:]:
                raise BratsError(
                    f"{path} is {mask.shape[0]} x {mask.shape[1]}, other slices of its volume are "
                    f"{labels.shape[1]} x {labels.shape[2]}: fetch the volume again"
                )
            image = image.astype(np.float64, copy=False)
            np.take(image, order, axis=-1, out=images[position], mode="clip")
            labels[position] = mask @ np.array([1, 2, 3], dtype=np.uint8)
            row = self._rows.get(patient, {}).get(number)
            if row is not None:
                check_row(path, labels[position], row)
        assert images is not None and labels is not None  # a patient has a slice
        _check_not_empty(images, os.path.dirname(slices[numbers[0]]), patient)
        provenance: dict[str, Any] = {
            "folder": os.path.relpath(os.path.dirname(slices[numbers[0]]), self.root),
            "files": f"{len(numbers)} of volume_{int(patient.rsplit('_')[-1])}_slice_*.h5",
            "hdf5_filters": sorted(filters),
            "channel_order": list(self.channel_order),
            "orientation": "LPS (of the release; the files keep none)",
            "spacing": "of the release; the files keep none",
        }
        if patient in self._grades:
            provenance["grade"] = self._grades[patient]
        notes = [holes] if (holes := note_on_holes(np.array(numbers), self.name)) else []
        # Air is not 0 in z-scores.
        areas = np.stack([np.count_nonzero(image != image[0, 0], axis=(0, 1)) for image in images])
        of_channel = dict(enumerate(f"{DISPLAY_NAMES[name]} of {patient}" for name in MODALITIES))
        note_blank_slices([areas], of_channel, notes)
        return Case(
            patient=patient,
            images=images,
            labels=labels,
            slice_numbers=np.array(numbers),
            notes=notes,
            affine=None,
            spacing_mm=(1.0, 1.0, 1.0),
            provenance=provenance,
        )


def _check_not_empty(images: np.ndarray, folder: str, patient: str) -> None:
    """Refuses a volume of which one modality is 0 everywhere and another is not."""
    filled = [bool(images[..., channel].any()) for channel in range(len(MODALITIES))]
    empty = [name for name, has in zip(MODALITIES, filled, strict=True) if not has]
    if empty and any(filled):
        raise BratsError(
            f"{folder}: {' and '.join(empty)} of {patient} is all zero: fetch the volume again, or "
            "leave it out"
        )


def _checked_order(names: Sequence[str]) -> tuple[str, ...]:
    order = tuple(canonical_name(name) for name in names)
    if sorted(order) != sorted(MODALITIES):
        raise BratsError(
            f"--channel_order={','.join(names)} must name each of {', '.join(MODALITIES)} once"
        )
    return order
