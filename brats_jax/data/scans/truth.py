"""The true labels in the folder of a scan, for display."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.scans import provenance
from brats_jax.data.scans.case_files import CaseFiles, files_near, group_by_case
from brats_jax.data.scans.grids import from_lps
from brats_jax.data.scans.labels import choose_scheme, map_labels
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.orientation import settle_labels
from brats_jax.data.scans.resample import resample
from brats_jax.data.scans.scan import Scan
from brats_jax.data.scans.volumes import Volume, read_volume
from brats_jax.errors import BratsError


def read_truth(
    scan: Scan, label_scheme: str = "", notes: list[str] | None = None
) -> np.ndarray | None:
    """Reads the true labels of a scan from the folder of its first image.

    Args:
      scan: read from files that are named as in a BraTS release.
      label_scheme: a name of `labels.SCHEMES`; '' for that of the names of the files.
      notes: gets lines on tissues that are no class.

    Returns:
      uint8[slices, H, W] on the scan's grid, ET as 3; None if there are no labels, or only labels
      that this program has predicted.

    Raises:
      BratsError: labels that cannot be read, have unknown values, or do not fit the images.
    """
    first = Path(next(iter(scan.files.values())))
    case = _case_of(first)
    if case is None:
        return None
    if case.conflict:
        raise BratsError(case.conflict)
    labels = read_volume(case.paths[SEG], scan.options)
    scheme = choose_scheme(labels, case.schemes, label_scheme)
    mapped = map_labels(labels, scheme, [] if notes is None else notes)
    brain = np.moveaxis((scan.images != 0).any(axis=-1), 0, 2)
    own = resample(brain, scan.grid, scan.input_grid, nearest=True)
    # The grid of the reference is needed, not its values.
    empty = from_lps(np.broadcast_to(np.uint8(0), scan.input_grid.shape), scan.input_affine)
    reference = Volume(str(first), empty, scan.input_affine, scan.header, scan.unknown_axes)
    upright = settle_labels(
        dataclasses.replace(labels, voxels=mapped),
        [reference],
        lambda: own,
        scan.options.orientation,
        [],
    )
    on_grid = resample(upright, scan.input_grid, scan.grid, nearest=True)
    return np.ascontiguousarray(np.moveaxis(on_grid, 2, 0))


def _case_of(file: Path) -> CaseFiles | None:
    """The case of an image file, if the folder holds true labels of it."""
    if not file.is_file():  # the name of an array
        return None
    files = files_near(file)
    while (case := _case_with(file, files)) is not None and SEG in case.paths:
        labels = Path(case.paths[SEG])
        if not provenance.is_predicted(labels):
            return case
        files.remove(labels)  # true labels may have another name
    return None


def _case_with(file: Path, files: Sequence[Path]) -> CaseFiles | None:
    for case in group_by_case(files).values():
        if file in map(Path, case.paths.values()):
            return case
    return None
