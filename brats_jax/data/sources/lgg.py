"""The Kaggle data set "LGG MRI segmentation": one TIFF file per slice, with masks of the tumour.

    kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{1..23}.tif        uint8[256, 256, 3]
    kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{1..23}_mask.tif   uint8[256, 256], 0, 255

The channels are T1, FLAIR and T1Gd, with skull. A sequence that a patient lacks is a copy of FLAIR
there, which is recognised and taken as missing. The mask is the abnormality in FLAIR: the whole
tumour, which tells no classes. 110 patients of TCGA-LGG, 3,929 slices.

The files keep neither affine nor spacing. Rows run to Posterior, columns to Left, slice numbers to
Superior. The middle 240 x 240 of the 256 x 256 pixels are taken, without resampling, so that a
store may hold BraTS as well. Air is set to 0: all outside the head in FLAIR and outside the mask.

Reference: Buda, Saha and Mazurowski 2019, https://doi.org/10.1016/j.compbiomed.2019.05.002
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES, NO_LABELS, WHOLE_TUMOUR
from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.scans.blank_slices import areas_by_plane, note_blank_slices
from brats_jax.data.scans.head import head_mask
from brats_jax.data.scans.options import ReadOptions, check_case_bytes
from brats_jax.data.scans.persons import subject_of
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.tiff_slice import SIDE, read_image, read_mask
from brats_jax.data.whole_volumes import LGG, note_on_holes
from brats_jax.errors import BratsError
from brats_jax.runtime.text import plural

LGG_FILE = re.compile(
    r"(?P<case>TCGA_[A-Z0-9]{2}_[A-Z0-9]{4}_\d{8})_(?P<slice>\d+)(?P<mask>_mask)?\.tiff?",
    re.IGNORECASE,
)
CHANNELS = ("t1", "flair", "t1gd")
SLICE_SHAPE = (240, 240)  # as BraTS

# Copies that were compressed or rescaled correlate with FLAIR by more than this within the head;
# a sequence of its own by 0.92 at most (110 patients).
_COPY = 0.98
_LARGEST_SLICE = 2**15  # slice numbers of a store have 16 bits


class LggSource:
    """The slices below a folder.

    Args:
      root: the folder, for messages and provenance.
      files: every file below it.
      unreadable: a line for each folder that cannot be listed.
      options: the largest size of a case, and whether labels are required.

    Raises:
      BratsError: two copies of the set.
    """

    name = LGG
    normalisations = NORMALISATIONS

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        unreadable: Mapping[str, str] | None = None,
        options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    ) -> None:
        self.root, self.options = root, options
        self._problems: dict[str, str] = dict(unreadable or {})
        self._images: dict[str, dict[int, str]] = {}
        self._masks: dict[str, dict[int, str]] = {}
        for path in files:
            if match := LGG_FILE.fullmatch(path.name):
                self._add(path, match["case"].upper(), int(match["slice"]), bool(match["mask"]))

    def _add(self, path: Path, patient: str, number: int, is_mask: bool) -> None:
        if not 1 <= number <= _LARGEST_SLICE:
            self._problems.setdefault(
                patient,
                f"{path}: slices of this set are numbered from 1: rename the file, or take it out "
                "of the folder",
            )
            return
        of_patient = (self._masks if is_mask else self._images).setdefault(patient, {})
        other = of_patient.setdefault(number, str(path))
        if other == str(path):
            return
        if Path(other).parent != path.parent:
            raise BratsError(
                f"{Path(other).parent} and {path.parent} both hold slices of {patient} (the "
                "archive of Kaggle holds the set twice): give the folder of one copy, e.g. "
                f"--source={Path(other).parent.parent}"
            )
        self._problems.setdefault(
            patient, f"{path} and {other} are the same slice: move one of them out of the folder"
        )

    @property
    def description(self) -> dict[str, Any]:
        return {"folder": str(self.root)}

    def patients(self) -> list[str]:
        return sorted({*self._images, *self._masks, *self._problems})

    def problems(self) -> dict[str, str]:
        """Masks without image, images without mask, and bad numbers: patient -> one line."""
        found = {name: self._problem(name) for name in self.patients()}
        return {name: problem for name, problem in found.items() if problem}

    def _problem(self, patient: str) -> str:
        if patient in self._problems:
            return self._problems[patient]
        if self.options.require_labels:
            return f"{patient} is of the LGG set, which has no labels of the classes and no T2"
        images, masks = self._images.get(patient, {}), self._masks.get(patient, {})
        if lacking := sorted(masks.keys() - images.keys()):
            return f"{masks[lacking[0]]} has no image ({plural(len(lacking), 'mask')} in all)"
        # A patient without any mask is unlabelled.
        if masks and (lacking := sorted(images.keys() - masks.keys())):
            path = Path(images[lacking[0]])
            mask = path.with_name(f"{path.stem}_mask{path.suffix}")
            return f"{mask} is missing ({plural(len(lacking), 'mask')} in all)"
        return ""

    def files_of(self, patient: str) -> list[str]:
        return [*self._images.get(patient, {}).values(), *self._masks.get(patient, {}).values()]

    def notices(self) -> list[str]:
        """What a user should know of the set, one line each."""
        return [
            f"LGG slices have a skull, and {SIDE} x {SIDE} pixels of unknown size, of which the "
            f"middle {' x '.join(map(str, SLICE_SHAPE))} are taken; their masks are of the whole "
            "tumour and never taken for classes",
            "patients of TCGA-LGG are in BraTS too, under names that do not tell who (in 2018 "
            "among TCIA09_*, TCIA10_*, TCIA12_* and TCIA13_*): keep those out of a test set beside "
            "LGG slices",
        ]

    def read(self, patient: str) -> Case:
        if problem := self._problem(patient):
            raise BratsError(f"{problem}: fetch what is missing, or leave the case out")
        paths = self._images[patient]
        numbers = sorted(paths)
        folder = os.path.dirname(paths[numbers[0]])
        # Images and masks as read, and the images in four modalities.
        check_case_bytes(folder, len(numbers) * SIDE**2 * 8, self.options.max_case_gb)
        stored = np.stack([read_image(paths[number]) for number in numbers])
        masks = self._masks.get(patient)
        mask = np.zeros(stored.shape[:3], bool)
        if masks:
            mask = np.stack([read_mask(masks[number]) for number in numbers])
        flair = stored[..., CHANNELS.index("flair")]
        if flair.min() == flair.max():
            raise BratsError(
                f"{folder}: FLAIR of {patient} is {flair.flat[0]} everywhere: fetch the volume "
                "again, or leave the case out"
            )
        head = head_mask(flair) | mask
        notes: list[str] = []
        missing = _missing(stored, head, folder, notes)
        present = tuple(name for name in MODALITIES if name in CHANNELS and name not in missing)
        images = np.zeros((len(numbers), *SLICE_SHAPE, len(MODALITIES)), np.uint8)
        for name in present:
            channel = np.where(head, stored[..., CHANNELS.index(name)], 0)
            images[..., MODALITIES.index(name)] = fitted(channel, SLICE_SHAPE).swapaxes(1, 2)
        of_channel = {MODALITIES.index(m): f"{folder}: {DISPLAY_NAMES[m]}" for m in present}
        note_blank_slices(areas_by_plane(images)[:1], of_channel, notes)
        labels = fitted(mask, SLICE_SHAPE).swapaxes(1, 2)
        if lost := int(np.count_nonzero(mask)) - int(np.count_nonzero(labels)):
            notes.append(f"{lost} pixels of the mask lie outside the middle of the slices: cut off")
        if holes := note_on_holes(np.array(numbers) - 1, self.name):
            notes.append(holes)
        return Case(
            patient=patient,
            subject=subject_of(patient),
            images=images,
            labels=np.ascontiguousarray(labels, np.uint8) if masks else None,
            slice_numbers=np.array(numbers) - 1,
            affine=None,
            spacing_mm=None,
            provenance={
                "folder": os.path.relpath(folder, self.root),
                "files": f"{len(numbers)} of {patient}_*.tif",
                "channels": list(CHANNELS),
                "orientation": "LPS (axial slices; the files keep none)",
                "spacing": "unknown",
            },
            notes=notes,
            present=present,
            label_kind=WHOLE_TUMOUR if masks else NO_LABELS,
        )


def _missing(stored: np.ndarray, head: np.ndarray, folder: str, notes: list[str]) -> set[str]:
    """The modalities that are no images of their own.

    Args:
      stored: uint8[slices, H, W, 3] in the order of `CHANNELS`.
      head: bool[slices, H, W].
      folder: for messages.
      notes: gets a line on each.

    Raises:
      BratsError: some slices are copies and others are not, or T1Gd is a copy of T1.
    """
    values = {name: stored[..., k] for k, name in enumerate(CHANNELS)}
    flair = values["flair"]
    drawn = flair.max(axis=(1, 2)) > flair.min(axis=(1, 2))  # slices of one value prove nothing
    missing = set()
    for name in ("t1", "t1gd"):
        image, shown = values[name], DISPLAY_NAMES[name]
        if image.min() == image.max():
            missing.add(name)
            notes.append(f"{shown} is {image.flat[0]} everywhere: taken as missing")
            continue
        equal = (image == flair).all(axis=(1, 2))[drawn]
        if equal.all() or (likeness := _correlation(image[head], flair[head])) > _COPY:
            missing.add(name)
            how = "a copy of" if equal.all() else f"an altered copy (correlation {likeness:.3f}) of"
            notes.append(f"{shown} is {how} FLAIR: taken as missing")
        elif equal.any():
            raise BratsError(
                f"{folder}: {shown} equals FLAIR in {plural(int(equal.sum()), 'slice')} of "
                f"{len(equal)}: fetch the volume again, or leave the case out"
            )
    if not missing and _correlation(values["t1"][head], values["t1gd"][head]) > _COPY:
        raise BratsError(
            f"{folder}: T1 and T1Gd are the same images, and nothing tells which of them is "
            "missing: fetch the volume again, or leave the case out"
        )
    return missing


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two images; 0 if one of them is constant."""
    first, second = (values - values.mean() for values in (one.astype(float), other.astype(float)))
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale else 0.0


def fitted(slices: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The middle of [n, h, w], as [n, H, W]: cut off, or padded with 0, on all sides alike."""
    out = np.zeros((len(slices), *shape), slices.dtype)
    inner, outer = [], []
    for have, want in zip(slices.shape[1:], shape, strict=True):
        size = min(have, want)
        inner.append(slice((have - size) // 2, (have - size) // 2 + size))
        outer.append(slice((want - size) // 2, (want - size) // 2 + size))
    out[:, outer[0], outer[1]] = slices[:, inner[0], inner[1]]
    return out
