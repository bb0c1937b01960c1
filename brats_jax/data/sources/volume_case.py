"""A case from the volumes of its modalities, the same for every source of NIfTI files.

Axes are settled, air is set to 0, images and labels are turned to LPS; what is not as in BraTS is
refused.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.modalities import CLASS_LABELS, DISPLAY_NAMES, MODALITIES, NO_LABELS
from brats_jax.data.normalise import brain_mask
from brats_jax.data.scans import provenance
from brats_jax.data.scans.blank_slices import areas_by_plane, note_blank_slices
from brats_jax.data.scans.checks import (
    check_stripped,
    checked_images,
    grid_problem,
    modalities_apart,
    voxel_problem,
)
from brats_jax.data.scans.contrast import exchange_note
from brats_jax.data.scans.grids import to_lps, voxel_sizes_mm
from brats_jax.data.scans.labels import LabelScheme, choose_scheme, label_values, map_labels
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.orientation import Oriented, settle_labels
from brats_jax.data.scans.scan import WARNING
from brats_jax.data.scans.volumes import Volume
from brats_jax.data.sources.base import Case
from brats_jax.errors import BratsError
from brats_jax.runtime import threads


@dataclasses.dataclass(frozen=True)
class LabelVolume:
    """The labels of a case before their values are read.

    Attributes:
      volume: as in the file.
      candidates: the schemes that the values may have.
      chosen: the scheme that the user chose; '' for that of the names.
      kind: see `Case.label_kind`; of a mask of the whole tumour, every value that is not 0 is 1.
    """

    volume: Volume
    candidates: list[LabelScheme]
    chosen: str = ""
    kind: str = CLASS_LABELS


def case_from_volumes(
    patient: str,
    volumes: Mapping[str, Volume],
    labels: LabelVolume | None,
    options: ReadOptions,
    files: Mapping[str, str],
    subject: str = "",
) -> Case:
    """Checks and turns the volumes of one case.

    Args:
      patient: the name of the case.
      volumes: by modality, at least one; the others are absent.
      labels: of the case; None if it has none.
      options: how the files are read.
      files: paths below the folder of the source, for the provenance.
      subject: see `Case`.

    Raises:
      BratsError: labels that this program predicted, or images or labels that are not as in BraTS.
    """
    volumes = {name: volumes[name] for name in MODALITIES if name in volumes}
    truth = None if labels is None else labels.volume
    if truth is not None and provenance.is_prediction(truth.header):
        raise BratsError(
            f"{truth.path} was predicted by this program and is no truth for training or "
            "evaluation: replace it by true labels, or take the case away"
        )
    oriented = _checked(volumes, options, truth)
    notes = list(oriented.notes)
    reference = oriented.reference
    images = _interleave({m: to_lps(v.voxels, v.affine) for m, v in oriented.volumes.items()})
    of_channel = {MODALITIES.index(m): v.path for m, v in oriented.volumes.items()}
    check_stripped(images, reference.grid, of_channel)
    note_blank_slices(areas_by_plane(images), of_channel, notes)
    names = {m: Path(v.path).name for m, v in oriented.volumes.items()}
    if exchanged := exchange_note(images, names):
        notes.append(WARNING + exchanged)
    if absent := [DISPLAY_NAMES[name] for name in MODALITIES if name not in volumes]:
        notes.append(f"without {' and '.join(absent)}")
    aligned: np.ndarray | None = None
    of_labels: dict[str, object] = {}
    if labels is not None:
        mapped, of_labels = _classes(labels, notes)
        aligned = settle_labels(
            mapped,
            [reference, *oriented.volumes.values()],
            lambda: np.moveaxis(brain_mask(images), 0, 2),
            options.orientation,
            notes,
        )
        aligned = np.ascontiguousarray(np.moveaxis(aligned, 2, 0))
    affine = reference.grid.affine
    counts = threads.parallel_map(
        lambda volume: int(np.count_nonzero(volume.voxels < 0)), oriented.volumes.values()
    )
    for name, count in zip(oriented.volumes, counts, strict=True):
        if count:
            notes.append(f"{name} has {count} negative voxels; kept as they are")
    return Case(
        patient=patient,
        subject=subject,
        images=images,
        labels=aligned,
        slice_numbers=np.arange(len(images)),
        affine=affine.tolist(),
        spacing_mm=voxel_sizes_mm(affine),
        provenance={
            "files": dict(files),
            "orientation": reference.codes,
            "dtypes": {name: str(v.voxels.dtype) for name, v in oriented.volumes.items()},
            **of_labels,
            **({"read_as": oriented.read_as} if oriented.read_as else {}),
        },
        notes=notes,
        present=tuple(volumes),
        label_kind=NO_LABELS if labels is None else labels.kind,
    )


def _classes(labels: LabelVolume, notes: list[str]) -> tuple[Volume, dict[str, object]]:
    """The labels with the values of a store, and their provenance."""
    volume = labels.volume
    scheme = choose_scheme(volume, labels.candidates, labels.chosen)
    if labels.kind == CLASS_LABELS:
        mapped = map_labels(volume, scheme, notes)
    else:
        mapped = (volume.voxels != 0).astype(np.uint8)
    return dataclasses.replace(volume, voxels=mapped), {
        "label_dtype": str(volume.voxels.dtype),
        "label_orientation": volume.codes,
        "label_values": label_values(volume.voxels),
        "label_scheme": str(scheme),
    }


def _checked(
    volumes: Mapping[str, Volume], options: ReadOptions, labels: Volume | None
) -> Oriented:
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


def _interleave(grids: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stacks [x, y, z] of each modality to [z, x, y, 4], slice by slice; 0 for absent ones.

    Integers of at most 16 bits, which nearly all cases have, keep their type: they need half the
    memory and are faster to normalise. Other types become float32.
    """
    width, height, slices = next(iter(grids.values())).shape
    dtype = np.result_type(*grids.values())
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        dtype = np.dtype(np.float32)
    of_channel: Sequence[np.ndarray | int] = [grids.get(name, 0) for name in MODALITIES]
    images = np.empty((slices, width, height, len(MODALITIES)), dtype)

    def fill(block: slice) -> None:
        for channel, grid in enumerate(of_channel):
            for z in range(block.start, block.stop):
                images[z, ..., channel] = grid if isinstance(grid, int) else grid[..., z]

    threads.parallel_map(fill, threads.split_range(slices))
    return images
