"""What a source of cases is: labelled slices with named modalities, whatever lies on disk."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One patient as read: every slice, modalities in canonical order, labels 0..3.

    Attributes:
      patient: the patient's name in the data set, unique in its source.
      images: real[slices, H, W, 4] intensities as stored by the source, last axis in the order
        of `modalities.MODALITIES`; axis 1 runs Left, axis 2 Posterior, axis 0 Superior.
      labels: uint8[slices, H, W], values as in `modalities.CLASSES`.
      slice_numbers: int[slices], ascending, zero-based positions along z in the volume.
      affine: 4x4 nested list, voxel (x, y, z) of the LPS grid to scanner mm; None if the source
        keeps none.
      spacing_mm: voxel size along x, y, z in mm; None if the source keeps none.
      provenance: where it came from, as json can write it.
      notes: what a reader of the store should know about this case, one line each.
      subject: the person, where one was scanned more than once; empty for `patient`.
    """

    patient: str
    images: np.ndarray
    labels: np.ndarray
    slice_numbers: np.ndarray
    affine: list[list[float]] | None
    spacing_mm: tuple[float, float, float] | None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] | list[str] = ()
    subject: str = ""


class Source(Protocol):
    """A set of cases. Must pickle: worker processes read different patients of one source.

    Attributes:
      name: what the source is ('kaggle', 'nifti', 'phantom').
      normalisations: which of 'slice' and 'volume' its intensities can bear.
    """

    @property
    def name(self) -> str: ...

    @property
    def normalisations(self) -> tuple[str, ...]: ...

    @property
    def description(self) -> dict[str, Any]:
        """Json-able facts that decide what is in it (folder, channel order, seed).

        A preparation that was cut short goes on only if they are still the same.
        """
        ...

    def patients(self) -> list[str]:
        """All patients, in the order of the store."""
        ...

    def read(self, patient: str) -> Case:
        """Reads one patient; raises BratsError if its files are not fit."""
        ...


# Optional methods, for sources that read files.


def known_problems(source: Source) -> dict[str, str]:
    """Patients that cannot be read, known before reading any: patient -> one line.

    From the source's own `problems()`, which only a source of files needs to have.
    """
    return getattr(source, "problems", dict)()


def notices(source: Source) -> list[str]:
    """What to tell about the source as a whole, from its own `notices()` if it has one."""
    return getattr(source, "notices", list)()


def state_of(source: Source, patient: str) -> str:
    """Changes when the files behind a case change; from its `files_of(patient)` if it has any."""
    files_of = getattr(source, "files_of", None)
    paths: list[str] = files_of(patient) if files_of is not None else []
    digest = hashlib.sha256()
    for path in sorted(paths):
        status = os.stat(path)
        digest.update(f"{path}\n{status.st_size}\n{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16] if paths else ""


def folder_files(root: Path) -> list[Path]:
    """Every file below a folder, sorted, following links but entering no folder twice.

    Leaves out hidden files and folders, among them the ._ twins that macOS adds to archives.
    """
    files: list[Path] = []
    entered: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files.extend(Path(folder, name) for name in names if not name.startswith("."))
    return sorted(files)
