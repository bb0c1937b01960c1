"""A store in a few words, as the documents of runs and grids have it."""

from dataclasses import dataclass, field
from typing import Any

from brats_jax.data.planes import AXIAL
from brats_jax.runtime.document import Part


@dataclass(frozen=True)
class StoreFacts(Part):
    """Two stores with the same fingerprint hold the same data.

    Attributes:
      fingerprint: of the arrays.
      source: the description of the source, or of several.
      normalisation: 'slice', 'volume' or another.
      patients: numbers of scans and persons, 'labelled', 'labelled_persons' and so on, by
        `data.store.summary.count_kinds`; empty where all have labels and all modalities.
      plane: of the slices, one of `data.planes.PLANES`.
      other_planes: by plane the fingerprint of each further store that training reads.
    """

    fingerprint: str
    source: dict[str, Any]
    normalisation: str
    patients: dict[str, int] = field(default_factory=dict)
    plane: str = AXIAL
    other_planes: dict[str, str] = field(default_factory=dict)
