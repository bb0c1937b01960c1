"""BraTS NIfTI cases: five volumes per case, named as in any release since 2020.

See `scans.naming` for the names of files and `scans.labels` for the label values. Volumes and
affines are turned to LPS.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.normalise import brain_mask
from brats_jax.data.scans import provenance
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.checks import (
    check_stripped,
    checked_images,
    grid_problem,
    modalities_apart,
    voxel_problem,
)
from brats_jax.data.scans.grids import to_lps, voxel_sizes_mm
from brats_jax.data.scans.labels import choose_scheme, label_values, map_labels, scheme_named
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.nifti_file import check_case_size
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.orientation import Oriented, settle_labels
from brats_jax.data.scans.persons import subjects_of
from brats_jax.data.scans.volumes import Volume, read_volume
from brats_jax.data.sources.base import Case
from brats_jax.errors import BratsError
from brats_jax.runtime import threads


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
    normalisations = ("slice", "volume")

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
        self._other_masks = {name: group.other_masks for name, group in groups.items()}

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
        """Missing volumes, and files that contradict each other: case -> one line."""
        found = {name: self._problem(name) for name in self.patients()}
        return {name: problem for name, problem in found.items() if problem}

    def _problem(self, case: str) -> str:
        if case in self._conflicts:
            return self._conflicts[case]
        volumes = self._cases[case]
        folder = Path(next(iter(volumes.values()))).parent
        missing = [name for name in MODALITIES if name not in volumes]
        if missing:
            return f"{folder} has no {' and no '.join(missing)} volume of case {case}"
        if SEG not in volumes:
            others = [Path(path).name for path in self._other_masks[case]]
            masks = f"; {others[0]} is no known name of labels" if others else ""
            return f"{folder} has no labels (*_seg.nii.gz) for case {case}{masks}"
        return ""

    def read(self, patient: str) -> Case:
        if patient in self._conflicts:
            raise BratsError(self._conflicts[patient])
        if problem := self._problem(patient):
            raise BratsError(f"{problem}: fetch what is missing, or leave the case out")
        paths = self._cases[patient]
        notes: list[str] = []
        check_case_size(paths.values(), self.options.max_case_gb)
        *read, labels = threads.parallel_map(
            lambda name: read_volume(paths[name], self.options), [*MODALITIES, SEG]
        )
        if provenance.is_prediction(labels.header):
            raise BratsError(
                f"{labels.path} was predicted by this program and is no truth for training or "
                "evaluation: replace it by true labels, or take the case away"
            )
        oriented = _checked(dict(zip(MODALITIES, read, strict=True)), self.options, labels)
        notes += oriented.notes
        volumes, reference = oriented.volumes, oriented.reference
        images = _interleave([to_lps(v.voxels, v.affine) for v in volumes.values()])
        check_stripped(
            images, reference.grid, {m: volumes[name].path for m, name in enumerate(MODALITIES)}
        )
        scheme = choose_scheme(labels, self._schemes[patient], self.labels)
        mapped = map_labels(labels, scheme, notes)
        aligned = settle_labels(
            dataclasses.replace(labels, voxels=mapped),
            [reference, *volumes.values()],
            lambda: np.moveaxis(brain_mask(images), 0, 2),
            self.options.orientation,
            notes,
        )
        affine = reference.grid.affine
        counts = threads.parallel_map(
            lambda v: int(np.count_nonzero(v.voxels < 0)), volumes.values()
        )
        negative = dict(zip(MODALITIES, counts, strict=True))
        for name, count in negative.items():
            if count:
                notes.append(f"{name} has {count} negative voxels; kept as they are")
        return Case(
            patient=patient,
            subject=self._subjects[patient],
            images=images,
            labels=np.ascontiguousarray(np.moveaxis(aligned, 2, 0)),
            slice_numbers=np.arange(len(images)),
            affine=affine.tolist(),
            spacing_mm=voxel_sizes_mm(affine),
            provenance={
                "files": {
                    name: str(Path(path).relative_to(self.root)) for name, path in paths.items()
                },
                "orientation": reference.codes,
                "dtypes": {name: str(v.voxels.dtype) for name, v in volumes.items()},
                "label_dtype": str(labels.voxels.dtype),
                "label_orientation": labels.codes,
                "label_values": label_values(labels.voxels),
                "label_scheme": str(scheme),
                **({"read_as": oriented.read_as} if oriented.read_as else {}),
            },
            notes=notes,
        )


def _checked(volumes: Mapping[str, Volume], options: ReadOptions, labels: Volume) -> Oriented:
    """The images with settled axes, air of 0, and voxels of 1 mm on one grid."""
    oriented = checked_images(volumes, options, labels)
    reference = oriented.reference
    apart = modalities_apart(oriented.volumes, reference)
    problem = grid_problem(oriented.volumes, apart, reference)
    # Phantoms of few voxels have large ones.
    if not problem and not provenance.is_phantom(reference.header):
        problem = voxel_problem(reference, reference.grid, None)
    if problem:
        raise BratsError(f"{problem}: register and resample the case to one grid of 1 mm")
    return oriented


def _interleave(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks [x, y, z] of each modality to [z, x, y, modality], slice by slice.

    Integers of at most 16 bits, which nearly all cases have, keep their type: they need half the
    memory and are faster to normalise. Other types become float32.
    """
    width, height, slices = grids[0].shape
    dtype = np.result_type(*grids)
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        dtype = np.dtype(np.float32)
    images = np.empty((slices, width, height, len(grids)), dtype)

    def fill(block: slice) -> None:
        for channel, grid in enumerate(grids):
            for z in range(block.start, block.stop):
                images[z, ..., channel] = grid[..., z]

    threads.parallel_map(fill, threads.split_range(slices))
    return images
