"""The Kaggle slice data set (awsaf49/brats2020-training-data): one HDF5 file per 2D slice.

    volume_{1..369}_slice_{0..154}.h5    image float64[240, 240, 4], mask uint8[240, 240, 3]

Images are z-scored per slice and channel over all pixels. Masks are NCR/NET, ED and ET, disjoint.
The channel order is not documented. Compared with the NIfTI originals it is FLAIR, T1, T1ce, T2,
although many public loaders assume T1, T1Gd, T2, FLAIR. The files have no affine; the original
volumes are LPS at 1 mm.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import MODALITIES, canonical_name
from brats_jax.data.sources.base import Case
from brats_jax.errors import BratsError

CHANNEL_ORDER = ("flair", "t1", "t1gd", "t2")
SLICE_FILE = re.compile(r"volume_(\d+)_slice_(\d+)\.h5", re.IGNORECASE)
_COUNTS = ("label0_pxl_cnt", "label1_pxl_cnt", "label2_pxl_cnt")


@dataclasses.dataclass(frozen=True)
class _Row:
    """The row of a slice in a metadata table."""

    target: int
    counts: tuple[int, ...] | None
    table: str


class KaggleSource:
    """The Kaggle slice files below a folder, or a part of them.

    Args:
      root: the folder, for messages and provenance.
      files: every file below it.
      channel_order: the modality of each channel on disk; None for the true order above.

    Raises:
      BratsError: two files for one slice, a channel order without each modality once, or metadata
        tables that contradict each other.
    """

    name = "kaggle"
    normalisations = ("slice",)

    def __init__(
        self, root: Path, files: Sequence[Path], channel_order: Sequence[str] | None = None
    ) -> None:
        self.root = root
        self.channel_order = _checked_order(channel_order or CHANNEL_ORDER)
        self._slices: dict[str, dict[int, str]] = {}
        for path in files:
            match = SLICE_FILE.fullmatch(path.name)
            if match is None:
                continue
            slices = self._slices.setdefault(_patient(int(match[1])), {})
            other = slices.setdefault(int(match[2]), str(path))
            if other != str(path):
                raise BratsError(f"{path} and {other} are the same slice: keep one of them")
        self._rows, self._tables = _read_tables(files)
        self._grades = _read_grades(files)

    @property
    def description(self) -> dict[str, Any]:
        return {"folder": str(self.root), "channel_order": list(self.channel_order)}

    def patients(self) -> list[str]:
        return sorted(self._slices)

    def files_of(self, patient: str) -> list[str]:
        return list(self._slices[patient].values())

    def notices(self) -> list[str]:
        """Differences between the files and the metadata, one line each."""
        if not self._rows:
            return ["no metadata table: labels are not cross-checked"]
        absent = sorted(set(self._rows) - set(self._slices))
        lacking = extra = 0
        for patient, slices in self._slices.items():
            listed = self._rows.get(patient, {}).keys()
            lacking += len(listed - slices.keys())
            extra += len(slices.keys() - listed)
        tables = ", ".join(sorted(self._tables))
        notices = [f"labels are cross-checked with {tables}"]
        if absent:
            notices.append(f"{len(absent)} volumes listed in {tables} are not here")
        if lacking:
            notices.append(f"{lacking} slices of volumes that are here are listed but not here")
        if extra:
            notices.append(f"{extra} slice files are not listed in {tables}")
        return notices

    def read(self, patient: str) -> Case:
        slices = self._slices[patient]
        numbers = sorted(slices)
        order = [self.channel_order.index(modality) for modality in MODALITIES]
        images: np.ndarray | None = None
        labels: np.ndarray | None = None
        filters: set[str] = set()
        for position, number in enumerate(numbers):
            path = slices[number]
            image, mask, compression = _read_slice(path)
            filters.add(compression)
            if images is None or labels is None:
                shape = (len(numbers), *mask.shape[:2])
                images = np.empty((*shape, len(MODALITIES)), dtype=np.float64)
                labels = np.empty(shape, dtype=np.uint8)
            if mask.shape[:2] != labels.shape[1:]:
                raise BratsError(
                    f"{path} is {mask.shape[0]} x {mask.shape[1]}, other slices of its volume are "
                    f"{labels.shape[1]} x {labels.shape[2]}: fetch the volume again"
                )
            image = image.astype(np.float64, copy=False)
            np.take(image, order, axis=-1, out=images[position], mode="clip")
            labels[position] = mask @ np.array([1, 2, 3], dtype=np.uint8)
            row = self._rows.get(patient, {}).get(number)
            if row is not None:
                _check_row(path, labels[position], row)
        assert images is not None and labels is not None  # a patient has a slice
        provenance: dict[str, Any] = {
            "folder": os.path.relpath(os.path.dirname(slices[numbers[0]]), self.root),
            "files": f"{len(numbers)} of volume_{int(patient.rsplit('_')[-1])}_slice_*.h5",
            "hdf5_filters": sorted(filters),
            "channel_order": list(self.channel_order),
            "orientation": "LPS (of the release; the files keep none)",
            "spacing": "of the release; the files keep none",
        }
        if patient in self._grades:
            provenance["grade"] = self._grades[patient]
        return Case(
            patient=patient,
            images=images,
            labels=labels,
            slice_numbers=np.array(numbers),
            affine=None,
            spacing_mm=(1.0, 1.0, 1.0),
            provenance=provenance,
        )


def _patient(volume: int) -> str:
    return f"BraTS20_Training_{volume:03d}"


def _checked_order(names: Sequence[str]) -> tuple[str, ...]:
    order = tuple(canonical_name(name) for name in names)
    if sorted(order) != sorted(MODALITIES):
        raise BratsError(
            f"--channel_order={','.join(names)} must name each of {', '.join(MODALITIES)} once"
        )
    return order


def _read_slice(path: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads and checks one file.

    Returns:
      image float[H, W, 4], mask uint8[H, W, 3], and the name of the HDF5 filter.
    """
    import h5py  # imported here, so that reading a store does not load it

    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("image", "mask") if key not in file]
            if missing:
                raise BratsError(
                    f"{path} has no data set '{missing[0]}': it is not a slice of the Kaggle "
                    "data, fetch it again or take it away"
                )
            compression = file["image"].compression or "none"
            image = np.asarray(file["image"])
            mask = np.asarray(file["mask"])
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BratsError(f"{path} cannot be read ({reason}): fetch it again") from None
    if (
        image.ndim != 3
        or image.shape[-1] != len(MODALITIES)
        or mask.shape != (*image.shape[:2], 3)
        or image.dtype.kind not in "fiu"
    ):
        raise BratsError(
            f"{path} holds image {image.dtype}{list(image.shape)} and mask {list(mask.shape)}, "
            f"not [H, W, 4] and [H, W, 3]: fetch it again"
        )
    if not np.isfinite(image).all():
        raise BratsError(f"{path} holds intensities that are not finite: fetch it again")
    if not ((mask == 0) | (mask == 1)).all():
        values = np.unique(mask).tolist()[:8]
        raise BratsError(f"{path} has mask values {values}, not 0 and 1: fetch it again")
    mask = mask.astype(np.uint8)
    overlap = int((mask[..., 0] + mask[..., 1] + mask[..., 2] > 1).sum())
    if overlap:
        raise BratsError(
            f"{path} has {overlap} pixels in more than one mask channel, where NCR/NET, ED and ET "
            "exclude each other: fetch it again"
        )
    return image, mask, compression


def _check_row(path: str, labels: np.ndarray, row: _Row) -> None:
    counts = tuple(np.bincount(labels.ravel(), minlength=4)[1:].tolist())
    remedy = f"fetch it again, or move {row.table} away to go on without this check"
    if row.counts is not None and row.counts != counts:
        raise BratsError(
            f"{path} has {counts} pixels of NCR/NET, ED, ET, its row in {row.table} says "
            f"{row.counts}: {remedy}"
        )
    if bool(row.target) != any(counts):
        raise BratsError(
            f"{path} has {sum(counts)} tumour pixels, its row in {row.table} says "
            f"target {row.target}: {remedy}"
        )


def _read_tables(files: Sequence[Path]) -> tuple[dict[str, dict[int, _Row]], list[str]]:
    """The rows of the metadata tables by patient and slice, and the names of the tables."""
    rows: dict[str, dict[int, _Row]] = {}
    names: list[str] = []
    for path in files:
        if path.suffix.lower() != ".csv":
            continue
        found = _read_csv(path)
        if not found or not {"slice_path", "target"} <= found[0].keys():
            continue
        names.append(path.name)
        for line, row in enumerate(found, start=2):
            # slice_path contains the folder of the machine that wrote the table.
            match = SLICE_FILE.search(row["slice_path"] or "")
            try:
                if match is None:
                    raise ValueError("slice_path")
                counts = None
                if row.keys() >= set(_COUNTS):
                    counts = tuple(int(float(row[name])) for name in _COUNTS)
                new = _Row(int(float(row["target"])), counts, path.name)
            except (TypeError, ValueError):
                raise BratsError(
                    f"{path}, line {line}, is not the metadata of a slice: fetch the file again"
                ) from None
            of_patient = rows.setdefault(_patient(int(match[1])), {})
            old = of_patient.get(int(match[2]))
            if old is not None and (
                old.target != new.target
                or (None not in (old.counts, new.counts) and old.counts != new.counts)
            ):
                raise BratsError(
                    f"{path}, line {line}, contradicts {old.table} on {match[0]}: "
                    "move the wrong one away"
                )
            if old is None or old.counts is None:
                of_patient[int(match[2])] = new
    return rows, names


def _read_grades(files: Sequence[Path]) -> dict[str, str]:
    """Glioma grade (HGG, LGG) by patient, from name_mapping.csv if present."""
    for path in files:
        if path.name.lower() == "name_mapping.csv":
            return {
                row["BraTS_2020_subject_ID"]: row["Grade"]
                for row in _read_csv(path)
                if row.get("BraTS_2020_subject_ID") and row.get("Grade")
            }
    return {}


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BratsError(f"{path} cannot be read ({error}): fetch it again") from None
