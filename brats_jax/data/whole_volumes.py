"""Which volumes are whole: consecutive slices, from the first to the last of the release."""

import numpy as np

# Volumes of BraTS have the slices 0 to 154. Of single-slice files any may be missing.
RELEASE_SLICES = 155
# The kinds of source whose files are single slices.
SLICE_FILES, LGG = "kaggle", "lgg"


def missing_slices(numbers: np.ndarray, kind: str) -> np.ndarray:
    """The slice numbers that a volume lacks, ascending; none of a whole volume.

    Args:
      numbers: int[slices], positions in the volume.
      kind: of the source. Files of whole volumes have all slices of the scan; of a set of
        single-slice files, those from the first one, or of the release, are expected.
    """
    if not len(numbers):
        return np.arange(1)
    first, last = int(numbers.min()), int(numbers.max())
    if kind == SLICE_FILES:
        first, last = 0, max(last, RELEASE_SLICES - 1)
    elif kind == LGG:
        first = 0
    return np.setdiff1d(np.arange(first, last + 1), numbers)


def ranges(numbers: np.ndarray, most: int = 4) -> str:
    """'0 to 2, 5, 9 to 154'; of more than `most` ranges the first ones, and '...'."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    words = [f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts[:most] if len(p)]
    return ", ".join(words + ["..."] * (len(parts) > most))


def note_on_holes(numbers: np.ndarray, kind: str) -> str:
    """A line on a volume with missing slices; '' for a whole one."""
    missing = missing_slices(numbers, kind)
    if not missing.size:
        return ""
    names = ranges(missing + (kind == LGG))  # its files count from 1
    return (
        f"no whole volume: {len(missing)} of {len(missing) + len(np.unique(numbers))} slices are "
        f"missing ({names}); left out of scores of volumes and of scores over all slices"
    )
