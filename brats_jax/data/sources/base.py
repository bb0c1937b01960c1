"""The interface of a source: a set of cases with named modalities and labels."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brats_jax.data.modalities import CLASS_LABELS, MODALITIES
from brats_jax.runtime import files as files_on_disk


@dataclasses.dataclass(frozen=True)
class Case:
    """One patient as read: all slices, modalities in canonical order, labels if it has some.

    Attributes:
      patient: its name in the data set, unique in its source.
      images: real[slices, H, W, 4] intensities as stored by the source, last axis in the order
        of `modalities.MODALITIES`; axis 1 runs Left, axis 2 Posterior, axis 0 Superior.
      labels: uint8[slices, H, W] as `label_kind` says; None for a case without labels.
      slice_numbers: int[slices], ascending, zero-based positions along z in the volume.
      affine: 4x4 nested list, voxel (x, y, z) of the LPS grid to scanner mm; None if the source
        has none.
      spacing_mm: voxel size along x, y, z in mm; None if the source has none.
      provenance: facts on its origin, JSON-able.
      notes: peculiarities of the case, one line each.
      subject: the person, for persons with several scans; empty for `patient`.
      present: the modalities that the case has, at least one, in canonical order. Images of the
        others are 0.
      label_kind: 'classes', values as in `modalities.CLASSES`; 'whole_tumour', a mask of 0 and 1
        that tells no classes; 'none' for a case without labels.
    """

    patient: str
    images: np.ndarray
    labels: np.ndarray | None
    slice_numbers: np.ndarray
    affine: list[list[float]] | None
    spacing_mm: tuple[float, float, float] | None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] | list[str] = ()
    subject: str = ""
    present: tuple[str, ...] = MODALITIES
    label_kind: str = CLASS_LABELS


class Source(Protocol):
    """A set of cases. Must pickle: worker processes read different patients of one source.

    Attributes:
      name: of its kind: 'kaggle', 'lgg', 'msd', 'nifti', 'nnunet' or 'phantom'.
      normalisations: those of `normalise.NORMALISATIONS` that suit its intensities.
    """

    @property
    def name(self) -> str: ...

    @property
    def normalisations(self) -> tuple[str, ...]: ...

    @property
    def description(self) -> dict[str, Any]:
        """The facts that decide its contents (folder, channel order, seed), JSON-able.

        An interrupted preparation continues only with equal facts.
        """
        ...

    def patients(self) -> list[str]:
        """All patients, in the order of the store."""
        ...

    def read(self, patient: str) -> Case:
        """Reads one patient; raises BratsError for files that are damaged or do not fit."""
        ...


# Optional methods of a source; sources of files have them.


def known_problems(source: Source) -> dict[str, str]:
    """The problem of each patient that cannot be read, by its file names: `problems()`, if any."""
    return getattr(source, "problems", dict)()


def notices(source: Source) -> list[str]:
    """Lines on the source as a whole: `notices()`, if any."""
    return getattr(source, "notices", list)()


def state_of(source: Source, patient: str) -> str:
    """A hash of size and time of the files of a case, `files_of(patient)`; '' without files."""
    files_of = getattr(source, "files_of", None)
    paths: list[str] = files_of(patient) if files_of is not None else []
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            status = os.stat(path)
            facts = f"{status.st_size}\n{status.st_mtime_ns}"
        except OSError as error:  # the case is refused when it is read
            facts = f"unreadable {error.errno}"
        digest.update(os.fsencode(f"{path}\n{facts}\n"))
    return digest.hexdigest()[:16] if paths else ""


def folder_files(root: Path, unreadable: dict[str, str] | None = None) -> list[Path]:
    """All files below a folder, sorted. Follows links, but enters no folder twice.

    Ignores hidden files and folders, such as the ._ files that macOS adds to archives.

    Args:
      root: the folder.
      unreadable: gets a line for each folder that cannot be listed, by its path below `root`.

    Raises:
      BratsError: a folder cannot be listed, and `unreadable` is None.
    """

    def note(error: OSError) -> None:
        folder = os.fspath(error.filename)
        problem = files_on_disk.unreadable(folder, error)
        if unreadable is None or Path(folder) == root:
            raise problem
        unreadable[os.path.relpath(folder, root)] = str(problem)

    files: list[Path] = []
    entered: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files.extend(Path(folder, name) for name in names if not name.startswith("."))
    return sorted(files)
