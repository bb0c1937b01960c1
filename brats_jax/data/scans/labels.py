"""Label schemes of segmentation files, and their mapping to the classes 0 to 3.

The scheme follows from the release, which the names of files and folders tell, or from the user;
the values in a file never choose it, they only exclude schemes. `SCHEMES` is the table.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from brats_jax.data.modalities import CLASSES
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError

ET = CLASSES.index("ET")
ET_UNTIL_2021 = 4
_BACKGROUND, _NCR, _ED = (CLASSES.index(name) for name in ("background", "NCR/NET", "ED"))

BINARY = "its labels are 0 and 1 alone"  # begins the note on a mask of one value


@dataclasses.dataclass(frozen=True)
class LabelScheme:
    """The meaning of the label values of a release.

    Attributes:
      name: as `--labels` takes it.
      data: the data sets, in words.
      tissues: the class and the name of the tissue of each value but 0. Tissues that are no class,
        such as a resection cavity, are background.
    """

    name: str
    data: str
    tissues: Mapping[int, tuple[int, str]]

    def __str__(self) -> str:
        """'brats2021 (1 NCR/NET, 2 ED, 4 ET)'."""
        listed = ", ".join(f"{value} {tissue}" for value, (_, tissue) in self.tissues.items())
        return f"{self.name} ({listed})"

    def fits(self, values: Iterable[float]) -> bool:
        """Whether all values have a meaning."""
        return set(values) <= {0, *self.tissues}


_UNTIL_2021 = {1: (_NCR, "NCR/NET"), 2: (_ED, "ED"), 4: (ET, "ET")}
_SINCE_2023 = {1: (_NCR, "NCR/NET"), 2: (_ED, "ED"), 3: (ET, "ET")}
_POST_TREATMENT = {**_SINCE_2023, 4: (_BACKGROUND, "resection cavity")}
# The pediatric challenge of 2024. That of 2023 has the values of `brats2023`.
_PEDIATRIC = {1: (ET, "ET"), 2: (_NCR, "NET"), 3: (_NCR, "cyst"), 4: (_ED, "ED")}
_MSD = {1: (_ED, "ED"), 2: (_NCR, "NCR/NET"), 3: (ET, "ET")}

SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("brats2021", "BraTS 2017 to 2021", _UNTIL_2021),
        LabelScheme("brats2023", "BraTS 2023 GLI", _SINCE_2023),
        LabelScheme("brats2024", "BraTS 2024 GLI, post-treatment", _POST_TREATMENT),
        LabelScheme("ped", "BraTS 2024 PED", _PEDIATRIC),
        LabelScheme("men", "BraTS MEN", _SINCE_2023),
        LabelScheme("met", "BraTS MET", _SINCE_2023),
        LabelScheme("ssa", "BraTS SSA (Africa)", _SINCE_2023),
        LabelScheme("ucsf-pdgm", "UCSF-PDGM", _UNTIL_2021),
        LabelScheme("upenn-gbm", "UPENN-GBM", _UNTIL_2021),
        LabelScheme("msd", "MSD Task01_BrainTumour", _MSD),
    )
}

# Names of cases, and the schemes of the releases that have such names.
_BY_CASE = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), names)
    for pattern, names in (
        # Visits from 100 on are of the release of 2024, after treatment.
        (r"BraTS-GLI-\d+-[1-9]\d\d", ("brats2024",)),
        (r"BraTS-GLI-.*", ("brats2023",)),
        (r"BraTS-PED-.*", ("ped", "brats2023")),
        (r"BraTS-MEN-.*", ("men",)),
        (r"BraTS-MET-.*", ("met",)),
        (r"BraTS-SSA-.*", ("ssa",)),
        (r"UCSF-PDGM-.*", ("ucsf-pdgm",)),
        (r"UPENN-GBM-.*", ("upenn-gbm",)),
        (r"BRATS_\d{3}", ("msd",)),
        (r"BraTS(?:1[789]|2[01]|20[12]\d)_.*", ("brats2021",)),
    )
)
# Folders above a case that tell the release where the name of the case does not.
_BY_FOLDER = (
    (re.compile(r"Task01_BrainTumou?r.*", re.IGNORECASE), "msd"),
    (re.compile(r".*2023.*PED.*|.*PED.*2023.*", re.IGNORECASE), "brats2023"),
    (re.compile(r".*202[4-9].*PED.*|.*PED.*202[4-9].*", re.IGNORECASE), "ped"),
)


def scheme_named(name: str) -> LabelScheme | None:
    """The scheme that a user chose; None for ''. Years are read: 2020 or brats2020 is brats2021.

    Raises:
      BratsError: lists the schemes.
    """
    if not name:
        return None
    key = name.strip().lower()
    year = re.fullmatch(r"(?:brats)?(20(?:1[789]|2\d))", key)
    if year:
        key = f"brats{max(int(year[1]), 2021)}"
    found = SCHEMES.get(key)
    if found is None:
        raise BratsError(
            f"--labels={name[:40]} is no label scheme; valid: "
            + ", ".join(map(str, SCHEMES.values()))
        )
    return found


def schemes_of(case: str, folder: Path, *, four_is_et: bool) -> list[LabelScheme]:
    """The schemes of the releases that have a case of this name.

    Args:
      case: its name.
      folder: of its files.
      four_is_et: whether the suffixes of its files are those until 2021, which decides for names
        of no release.
    """
    names = next((names for pattern, names in _BY_CASE if pattern.fullmatch(case)), ())
    if len(names) != 1:
        of_folder = (
            name for part in folder.parts[::-1] for rule, name in _BY_FOLDER if rule.fullmatch(part)
        )
        if (name := next(of_folder, "")) and (not names or name in names):
            names = (name,)
    if not names:
        names = ("brats2021" if four_is_et else "brats2023",)
    return [SCHEMES[name] for name in names]


def is_of_a_release(case: str, folder: Path) -> bool:
    """Whether the names tell the release of a case; else the suffixes of its files choose."""
    return any(pattern.fullmatch(case) for pattern, _ in _BY_CASE) or any(
        rule.fullmatch(part) for part in folder.parts for rule, _ in _BY_FOLDER
    )


def choose_scheme(volume: Volume, candidates: list[LabelScheme], chosen: str = "") -> LabelScheme:
    """The scheme of a file.

    Args:
      volume: a segmentation, in any number type.
      candidates: by its names, see `schemes_of`.
      chosen: by the user, or ''.

    Raises:
      BratsError: values outside the scheme, or more than one scheme; names those that fit.
    """
    values = label_values(volume.voxels)
    shown = ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
    by_user = scheme_named(chosen)
    candidates = candidates if by_user is None else [by_user]
    fitting = [scheme for scheme in candidates if scheme.fits(values)]
    if len({tuple(_meaning(scheme, values)) for scheme in fitting}) == 1:
        return fitting[0]
    if fitting:
        raise BratsError(
            f"{volume.path} has the label values {shown}, which its name does not explain: give "
            f"--labels={' or --labels='.join(map(str, fitting))}"
        )
    others: dict[tuple[tuple[int, str], ...], LabelScheme] = {}
    for scheme in SCHEMES.values():
        if scheme.fits(values):
            others.setdefault(tuple(_meaning(scheme, values)), scheme)
    expected = " or ".join(map(str, candidates))
    by = "as --labels says" if by_user else "by its name"
    if not others:
        raise BratsError(
            f"{volume.path} has the label values {shown}, which no scheme has ({by} it is "
            f"{expected}): repair or remove the case"
        )
    raise BratsError(
        f"{volume.path} has the label values {shown}, but {by} it is {expected}: find out where "
        f"the labels come from, and give --labels={' or --labels='.join(map(str, others.values()))}"
    )


def map_labels(volume: Volume, scheme: LabelScheme, notes: list[str]) -> np.ndarray:
    """Maps labels to the classes.

    Args:
      volume: a segmentation whose values `scheme` explains (see `choose_scheme`).
      scheme: the scheme.
      notes: gets lines on tissues that are no class, and on masks of one value.

    Returns:
      uint8[x, y, z] with values as in `modalities.CLASSES`.
    """
    voxels = volume.voxels.astype(np.uint8)
    table = np.zeros(256, np.uint8)
    for value, (label, tissue) in scheme.tissues.items():
        table[value] = label
        if tissue not in CLASSES and (count := int(np.count_nonzero(voxels == value))):
            as_class = CLASSES[label]
            notes.append(f"{count} voxels of {tissue} (label {value}) are read as {as_class}")
    if label_values(volume.voxels) == [0, 1]:
        only = CLASSES[table[1]]
        notes.append(
            f"{BINARY}, read as {only}: check that they are no mask of the "
            "brain or of the whole tumour"
        )
    return table[voxels]


def _meaning(scheme: LabelScheme, values: Iterable[float]) -> list[tuple[int, str]]:
    return [scheme.tissues[int(value)] for value in values if value]


def label_values(voxels: np.ndarray) -> list[float]:
    """The distinct values, ascending; fast where most are 0."""
    flat = voxels.ravel(order="K")
    others = flat[flat != 0]
    values = np.unique(others).tolist()
    return sorted(values + [0] * (len(others) < len(flat)))


def with_et_as(labels: np.ndarray, et_label: int) -> np.ndarray:
    """Replaces ET's value in labels with values as in `modalities.CLASSES`; keeps the type.

    Args:
      labels: integer[...].
      et_label: 3 or 4.

    Raises:
      BratsError: another `et_label`.
    """
    if et_label not in (ET, ET_UNTIL_2021):
        raise BratsError(f"et_label={et_label}: give 4 (BraTS 2020, 2021) or 3 (2023 and later)")
    return np.where(labels == ET, labels.dtype.type(et_label), labels)
