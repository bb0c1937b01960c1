"""What a source of cases is: labelled slices with named modalities, whatever lies on disk."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

# The one anatomical form of everything that leaves a source: x grows towards the
# patient's Left, y towards Posterior, z towards Superior.
ORIENTATION = "LPS"


@dataclasses.dataclass(frozen=True)
class Case:
    """One patient as read: every slice, modalities in canonical order, labels 0..3.

    Attributes:
      patient: the patient's name in the data set, unique in its source.
      images: float[slices, H, W, 4] intensities as stored by the source, last axis in the order
        of `modalities.MODALITIES`; axis 1 runs Left, axis 2 Posterior, axis 0 Superior.
      labels: uint8[slices, H, W], values as in `modalities.CLASSES`.
      slice_numbers: int[slices], ascending, zero-based positions along z in the volume.
      affine: 4x4 nested list, voxel (x, y, z) of the LPS grid to scanner mm; None if the source
        keeps none.
      spacing_mm: voxel size along x, y, z in mm; None if the source keeps none.
      provenance: where it came from, as json can write it.
      notes: what a reader of the store should know about this case, one line each.
    """

    patient: str
    images: np.ndarray
    labels: np.ndarray
    slice_numbers: np.ndarray
    affine: list[list[float]] | None
    spacing_mm: tuple[float, float, float] | None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] | list[str] = ()


class Source(Protocol):
    """A set of cases. Must pickle: worker processes read different patients of one source.

    Attributes:
      name: what the source is ('kaggle', 'nifti', 'phantom').
      normalisations: which of 'slice' and 'volume' its intensities can bear.
      description: json-able facts that define the source's contents, for the manifest and for
        telling whether a half-done preparation can be continued (folder, channel order, seed).
    """

    name: str
    normalisations: tuple[str, ...]

    @property
    def description(self) -> dict[str, Any]: ...

    def patients(self) -> list[str]:
        """All patients, in the order of the store."""
        ...

    def read(self, patient: str) -> Case:
        """Reads one patient; raises BratsError if its files are not fit."""
        ...
