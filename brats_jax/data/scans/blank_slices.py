"""Slices of the brain in which a modality is blank: lost in a conversion, or never scanned."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.runtime import threads

# Slices with less than this share of the largest one are the ends of the brain.
_END = 0.1
# A modality with less than this share of the others in a slice is blank there; right cases of
# BraTS have 0.5 and more, but for some scans of 2013 that end early.
_BLANK = 0.05
# Blank slices at an end of the brain are no matter up to this share.
_EARLY_END = 0.05
_ROWS_OF = 4
_PLANES = ("axial", "sagittal", "coronal")


def areas_by_plane(filled: np.ndarray) -> list[np.ndarray]:
    """int[slices, C] along each axis: the pixels of a modality in each slice.

    Sagittal slices are counted in every fourth axial slice, for speed.

    Args:
      filled: [slices, H, W, C]; what is not 0 counts. Axes: Superior, Left, Posterior.
    """
    depth, height, width, channels = filled.shape
    axial = np.zeros((depth, channels), np.int64)

    def count(block: slice) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.zeros((height, channels), int), np.zeros((width, channels), int)
        for k in range(block.start, block.stop):
            here = filled[k] != 0
            # The sum of contiguous rows is the fast one.
            flat = np.add.reduce(here.reshape(height, -1), axis=0, dtype=np.uint16)
            columns += flat.reshape(width, channels)
            axial[k] = flat.reshape(width, channels).sum(axis=0)
            if k % _ROWS_OF == 0:
                rows += here.sum(axis=1)
        return rows, columns

    parts = threads.parallel_map(count, threads.split_range(depth))
    return [axial, *(np.sum([part[i] for part in parts], axis=0) for i in range(2))]


def note_blank_slices(
    areas: Sequence[np.ndarray], files: Mapping[int, str], notes: list[str]
) -> None:
    """Notes modalities that are blank in slices of the brain.

    Args:
      areas: int[slices, C] for each plane, of `areas_by_plane` or of axial slices alone.
      files: the name of each channel that is present, for messages.
      notes: gets a line for each modality and plane with blank slices.

    Raises:
      BratsError: a modality is blank in more than half of the slices of the brain.
    """
    for plane, area in zip(_PLANES, areas, strict=False):
        counts, total = _blank(area[:, list(files)])
        for name, count in zip(files.values(), counts, strict=True):
            text = f"is blank in {count} of the {total} {plane} slices of the brain"
            if 2 * count > total:
                raise BratsError(
                    f"{name} {text}: fetch it again, or take its file away (the case then counts "
                    "as without this modality)"
                )
            if count:
                notes.append(f"{Path(name).name} {text}: check whether it was cut off")


def _blank(areas: np.ndarray) -> tuple[list[int], int]:
    """The number of blank slices of each channel, and of the slices of the brain."""
    most = areas.max(axis=1)
    inside = np.flatnonzero((most > 0) & (most >= _END * most.max()))
    if not inside.size:
        return [0] * areas.shape[1], 0
    brain = slice(inside[0], inside[-1] + 1)
    expected = np.maximum(most[brain], _END * most.max())[:, None]
    blank = areas[brain] < _BLANK * expected
    total = len(blank)
    found = []
    for column in blank.T:
        shown = np.flatnonzero(~column)
        ends = total if not shown.size else total - (shown[-1] - shown[0] + 1)
        count = int(column.sum())
        found.append(count - ends if ends <= _EARLY_END * total else count)
    return found, total
