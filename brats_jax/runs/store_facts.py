"""The store of a run: in a few words, as documents of runs and grids have it, and its place."""

from dataclasses import dataclass, field
from pathlib import Path
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


def path_of_store(recorded: str, run: Path) -> Path:
    """Where the store of a run is.

    A relative path is recorded for the folder in which the training command was called.

    Args:
      recorded: the path in the run's settings, not empty.
      run: the folder of the run.

    Returns:
      `recorded`; if nothing is there, the same path below a folder above the run, where run and
      store were moved together or the command is called from elsewhere.
    """
    path = Path(recorded)
    if path.is_absolute() or path.exists():
        return path
    above = (folder / path for folder in run.absolute().parents)
    return next((one for one in above if one.exists()), path)
