"""Modalities, classes and regions, by name and in the order of every array.

A position in an array is looked up here, never assumed.
"""

from collections.abc import Sequence

from brats_jax.errors import BratsError

# The order of the channels of every image array.
MODALITIES: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")

# As written in tables and figures.
DISPLAY_NAMES: dict[str, str] = {"t1": "T1", "t1gd": "T1Gd", "t2": "T2", "flair": "FLAIR"}

# The classes in the order of their label values 0 to 3. Files of BraTS until 2021 store ET as 4:
# see `scans.labels`.
CLASSES: tuple[str, ...] = ("background", "NCR/NET", "ED", "ET")
NUM_CLASSES = len(CLASSES)

# The nested regions of the challenge, as sets of label values.
REGIONS: dict[str, tuple[int, ...]] = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}

# Every class, then the regions that are not a class, as sets of label values.
LABEL_SETS: dict[str, tuple[int, ...]] = {
    **{name: (value,) for value, name in enumerate(CLASSES)},
    **{name: values for name, values in REGIONS.items() if name not in CLASSES},
}


def channel_indices(names: Sequence[str]) -> tuple[int, ...]:
    """Positions of modalities in the canonical order, e.g. ('t1', 'flair') -> (0, 3).

    Raises:
      BratsError: a name that is not in `MODALITIES`.
    """
    unknown = [name for name in names if name not in MODALITIES]
    if unknown:
        raise BratsError(f"unknown modality '{unknown[0]}'; valid names: {', '.join(MODALITIES)}")
    return tuple(MODALITIES.index(name) for name in names)
