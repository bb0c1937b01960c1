"""The vocabulary: modalities and labels by name. A position is looked up, never assumed."""

from collections.abc import Sequence

from brats_jax.errors import BratsError

# Canonical channel order of everything this package writes.
MODALITIES: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")

# Canonical label values: BraTS 2020/2021 store ET as 4, 2023 and later as 3; here it is 3.
CLASSES: tuple[str, ...] = ("background", "NCR/NET", "ED", "ET")
NUM_CLASSES = len(CLASSES)

# The challenge's nested regions, as sets of the labels above.
REGIONS: dict[str, tuple[int, ...]] = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}

# How each modality is called in the releases (lower case) -> canonical name.
ALIASES: dict[str, str] = {
    "t1": "t1",
    "t1n": "t1",
    "t1ce": "t1gd",
    "t1c": "t1gd",
    "t1gd": "t1gd",
    "t2": "t2",
    "t2w": "t2",
    "flair": "flair",
    "t2f": "flair",
}

# How people write them, for tables and figures.
DISPLAY_NAMES: dict[str, str] = {"t1": "T1", "t1gd": "T1Gd", "t2": "T2", "flair": "FLAIR"}


def canonical_name(name: str) -> str:
    """Returns the canonical modality for any spelling in `ALIASES`, or raises BratsError."""
    try:
        return ALIASES[name.strip().lower()]
    except KeyError:
        raise BratsError(
            f"unknown modality '{name}'; valid names: {', '.join(sorted(ALIASES))}"
        ) from None


def channel_indices(names: Sequence[str]) -> tuple[int, ...]:
    """Positions of `names` in the canonical order, e.g. ('t1', 'flair') -> (0, 3)."""
    return tuple(MODALITIES.index(canonical_name(name)) for name in names)
