"""Modalities, classes and regions, by name and in the order of every array.

A position in an array is looked up here, never assumed.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.runtime.text import joined

# The order of the channels of every image array.
MODALITIES: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")

# Other spellings in use for each modality, without case, spaces, hyphens and underscores: of the
# releases of BraTS, of BIDS and of other data sets. `canonical_name` reads them.
ALIASES: dict[str, tuple[str, ...]] = {
    "t1": ("t1n", "t1w", "t1native", "t1pre", "t1weighted"),
    "t1gd": ("t1ce", "t1c", "t1gad", "t1post", "t1wce", "t1wgd", "t1cegad", "t1contrast"),
    "t2": ("t2w", "t2weighted"),
    "flair": ("t2f", "t2flair"),
}
_MODALITY_OF = {spelling: name for name in MODALITIES for spelling in (name, *ALIASES[name])}
# T1 with a word on contrast before or after it, as people name their files: T1_POSTCONTRAST,
# post-Gd_T1w, ce-gadolinium_T1w, T1+C. Without spaces, hyphens, underscores and full stops.
_CONTRAST = (
    r"(?:\+?(?:post|ce|cm|km|gd|gad|gado|gadolinium|contrast|contrasted|enhanced|with|plus|inj"
    r"|injected))"
)
_NO_CONTRAST = (
    r"(?:(?:pre|non?|without|un|nc)(?:ce|gd|gad|gado|gadolinium|contrast|contrasted|enhanced)?"
    r"|native?|nativ|plain)"
)
_T1 = r"t1(?:w|weighted|wi)?"
_WITH_WORDS = {
    "t1": re.compile(rf"{_NO_CONTRAST}{_T1}|{_T1}{_NO_CONTRAST}"),
    "t1gd": re.compile(rf"{_CONTRAST}+{_T1}|{_T1}(?:c?{_CONTRAST}+|\+?c\+?|\+)|c{_T1}"),
}

# For messages.
VALID_NAMES = "; ".join(f"{name} (or {', '.join(ALIASES[name])})" for name in MODALITIES)

# As written in tables and figures.
DISPLAY_NAMES: dict[str, str] = {"t1": "T1", "t1gd": "T1Gd", "t2": "T2", "flair": "FLAIR"}

# The classes in the order of their label values 0 to 3. Files of BraTS until 2021 store ET as 4:
# see `scans.labels`.
CLASSES: tuple[str, ...] = ("background", "NCR/NET", "ED", "ET")
NUM_CLASSES = len(CLASSES)

# The content of the labels of a case: the classes, the whole tumour alone, or no labels.
LABEL_KINDS = (CLASS_LABELS, WHOLE_TUMOUR, NO_LABELS) = ("classes", "whole_tumour", "none")

# The nested regions of the challenge, as sets of label values.
REGIONS: dict[str, tuple[int, ...]] = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}

# Every class, then the regions that are not a class, as sets of label values.
LABEL_SETS: dict[str, tuple[int, ...]] = {
    **{name: (value,) for value, name in enumerate(CLASSES)},
    **{name: values for name, values in REGIONS.items() if name not in CLASSES},
}


def display_list(names: Sequence[str]) -> str:
    """('t1', 't2', 'flair') -> 'T1, T2, FLAIR'."""
    return ", ".join(DISPLAY_NAMES[name] for name in names)


def display_joined(names: Sequence[str]) -> str:
    """('t1', 't2', 'flair') -> 'T1, T2 and FLAIR'."""
    return joined([DISPLAY_NAMES[name] for name in names])


@dataclass(frozen=True)
class Synthesis:
    """The modalities that a network predicts from others; as text 'FLAIR from T1 and T1Gd'.

    Attributes:
      inputs: that it reads.
      targets: that it predicts.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return f"{display_joined(self.targets)} from {display_joined(self.inputs)}"

    def is_possible(self, present: Collection[str]) -> bool:
        """Whether all inputs are present."""
        return {*self.inputs} <= {*present}

    def predicts_all(self, wanted: Collection[str], present: Collection[str]) -> bool:
        """Whether it predicts all wanted modalities from those that are present."""
        return self.is_possible(present) and {*wanted} <= {*self.targets}


def canonical_name(name: str) -> str:
    """The modality for any spelling in `ALIASES`, e.g. 'T1ce' or 'T1-Gd' -> 't1gd'.

    Raises:
      BratsError: an unknown spelling.
    """
    found = modality_of(name)
    if found is None:
        raise BratsError(f"unknown modality '{name}'; valid names: {VALID_NAMES}")
    return found


def canonical_names(value: Any) -> Any:
    """A name, or a list of names, in canonical spelling; unknown names and others stay."""
    if isinstance(value, list | tuple):
        return [canonical_names(item) for item in value]
    return modality_of(value) or value if isinstance(value, str) else value


def modality_of(name: str) -> str | None:
    """The modality for a spelling, also with a word on contrast ('T1_post'); None if unknown."""
    bare = re.sub(r"[\s._-]", "", name).lower()
    if bare.startswith("c") and not name.strip().lower().startswith("ct"):
        return None if bare.startswith("ct1") else _worded(bare)  # C_T1 is T1 of C
    return _MODALITY_OF.get(bare) or _worded(bare)


def _worded(bare: str) -> str | None:
    found = (modality for modality, known in _WITH_WORDS.items() if known.fullmatch(bare))
    return next(found, None)


def channel_indices(names: Sequence[str]) -> tuple[int, ...]:
    """Positions of modalities in the canonical order, e.g. ('t1', 'flair') -> (0, 3).

    Raises:
      BratsError: a name that is none of a modality.
    """
    return tuple(MODALITIES.index(canonical_name(name)) for name in names)
