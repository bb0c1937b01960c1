"""Tallies: the sufficient statistics of one pass over the test set, for every convention.

A tally holds counts, boundary sums and percentiles of each slice and region, and of the volume of
each patient whose slices are all there. `conventions.py` averages them without the model.

The file is a .npz of plain numbers and names; it holds no pickled object.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from brats_jax.data.modalities import CLASSES, LABEL_SETS, REGIONS
from brats_jax.data.whole_volumes import missing_slices
from brats_jax.errors import BratsError
from brats_jax.metrics.surface import SurfaceStatistics
from brats_jax.runs.documents import REEVALUATE_HINT, TallyHead
from brats_jax.runtime.files import atomic_open
from brats_jax.runtime.npz import check_array, open_npz

# The scored regions as sets of labels.
SCORED = LABEL_SETS
# Regions and scores of surfaces between voxels, in 3D. The background is left out: its surface is
# the frame of the volume.
SURFEL_REGIONS: tuple[str, ...] = tuple(name for name in SCORED if name != CLASSES[0])
SURFEL_FIELDS: tuple[str, ...] = ("hd95_mm", "nsd")
# Regions and fields of the lesion-wise scores.
LESION_REGIONS: tuple[str, ...] = tuple(REGIONS)
LESION_FIELDS: tuple[str, ...] = ("dice", "hd95_mm", "tp", "fn", "fp")

# Regions and metrics of image quality.
IMAGE_REGIONS: tuple[str, ...] = ("slice", "brain", "tumour")
IMAGE_METRICS: tuple[str, ...] = ("mse", "psnr", "psnr_fixed", "ssim", "ssim_gaussian")
YARDSTICK_METRICS: tuple[str, ...] = ("mse", "psnr", "ssim")
# The range R that the paper's mean MSE and PSNR together imply (0.0381, 29.77 dB), in units of
# the z-scored images: the same for every slice, so that PSNR says no more than MSE does.
FIXED_RANGE = 6.01


@dataclass(frozen=True)
class Slices:
    """The N slices of a tally, of P patients.

    Attributes:
      index: int64[N], position in the store.
      patient: int32[N], position in `patients`.
      number: int32[N], slice number in the patient's volume.
      patients: str[P].
      whole: bool[P], whether the tally has all slices of the patient's volume.
      tumour: bool[N], whether the truth has tumour.
      holes: bool[P], whether the patient is left out of scores over all slices, because the volume
        lacks slices; None: nobody is left out.
    """

    index: np.ndarray
    patient: np.ndarray
    number: np.ndarray
    patients: np.ndarray
    whole: np.ndarray
    tumour: np.ndarray
    holes: np.ndarray | None = None

    @property
    def left_out(self) -> np.ndarray:
        """bool[N]: slices that do not count in scores over all slices."""
        if self.holes is None:
            return np.zeros(len(self.patient), bool)
        return self.holes[self.patient]

    def arrays(self) -> dict[str, np.ndarray]:
        """As in the file of a tally."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.holes is None or not self.holes.any():
            del found["holes"]
        return _prefixed("slices", found)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """From the file of a tally.

        Tallies of earlier versions took every volume as whole: volumes whose numbers are not
        consecutive are left out here.
        """
        found = cls(**_unprefixed("slices", arrays))
        if found.holes is not None:
            return found
        holes = np.zeros(len(found.patients), bool)
        for patient in np.flatnonzero(found.whole):
            numbers = found.number[found.patient == patient]
            holes[patient] = missing_slices(numbers, "").size > 0
        if not holes.any():
            return found
        return dataclasses.replace(found, whole=found.whole & ~holes, holes=holes)


@dataclass(frozen=True)
class SegmentationTally:
    """Statistics of a segmentation, R regions in the order of `SCORED`.

    Attributes:
      slices: the slices in the tally.
      pixels: number of pixels of a slice.
      spacing_mm: float32[P, 3], voxel size along height, width and slices.
      tolerance_mm: largest distance of a boundary pixel that counts as found.
      counts: int32[N, R, 3] of (tp, fp, fn) in pixels.
      surface: boundary statistics in the plane, arrays [N, R].
      volume_surface: boundary statistics in 3D, arrays [P, R]; NaN and 0 where not `whole`.
      surfels: float32[P, len(SURFEL_REGIONS), len(SURFEL_FIELDS)], HD95 and NSD by area of the
        surface, as in BraTS 2023; NaN where not `whole` or a mask is empty.
      lesions: float32[P, len(LESION_REGIONS), len(LESION_FIELDS)], as in BraTS 2023; NaN where
        not `whole`.
    """

    slices: Slices
    pixels: int
    spacing_mm: np.ndarray
    tolerance_mm: float
    counts: np.ndarray
    surface: SurfaceStatistics
    volume_surface: SurfaceStatistics
    surfels: np.ndarray
    lesions: np.ndarray

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Writes the tally to a .npz file atomically; `facts` are JSON-able."""
        arrays = {
            **self.slices.arrays(),
            **_prefixed("surface", self.surface._asdict()),
            **_prefixed("volume_surface", self.volume_surface._asdict()),
            "pixels": np.asarray(self.pixels),
            "spacing_mm": self.spacing_mm,
            "tolerance_mm": np.asarray(self.tolerance_mm),
            "counts": self.counts,
            "surfels": self.surfels,
            "lesions": self.lesions,
            "regions": np.array(list(SCORED)),
        }
        _write(path, "segment", arrays, facts)

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Returns the tally at `path` and its facts.

        Raises:
          BratsError: the file is missing, damaged, of another version or of another kind.
        """
        with _opened(path, "segment") as (arrays, facts):
            regions = [str(name) for name in arrays["regions"]]
            _check_segmentation(arrays, len(regions))
            tally = cls(
                slices=Slices.of_arrays(arrays),
                pixels=int(arrays["pixels"]),
                spacing_mm=arrays["spacing_mm"],
                tolerance_mm=float(arrays["tolerance_mm"]),
                counts=arrays["counts"],
                surface=SurfaceStatistics(**_unprefixed("surface", arrays)),
                volume_surface=SurfaceStatistics(**_unprefixed("volume_surface", arrays)),
                surfels=arrays["surfels"],
                lesions=arrays["lesions"],
            )
        if regions != list(SCORED):
            raise BratsError(f"{path}: written for other regions; remove it, and {REEVALUATE_HINT}")
        return tally, facts


@dataclass(frozen=True)
class PretrainingTally:
    """Image quality of every slice.

    Attributes:
      slices: the slices in the tally.
      values: float32[N] for each 'region/metric' of `IMAGE_REGIONS` and `IMAGE_METRICS`; NaN
        where the region is empty or the number undefined. With several predicted modalities it is
        their mean, and each has its own values under 'modality region/metric'.
      yardsticks: the same by yardstick, for `YARDSTICK_METRICS`; none in tallies of earlier
        versions.
    """

    slices: Slices
    values: dict[str, np.ndarray]
    yardsticks: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Writes the tally to a .npz file atomically; `facts` are JSON-able."""
        arrays = {
            **self.slices.arrays(),
            **_prefixed("values", self.values),
        }
        for name, values in self.yardsticks.items():
            arrays |= _prefixed(f"yardstick.{name}", values)
        _write(path, "pretrain", arrays, facts)

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Returns the tally at `path` and its facts; raises as `SegmentationTally.load`."""
        with _opened(path, "pretrain") as (arrays, facts):
            count, _ = _check_slices(arrays)
            slices = Slices.of_arrays(arrays)
            values = _unprefixed("values", arrays)
            yardsticks: dict[str, dict[str, np.ndarray]] = {}
            for key, of_slices in _unprefixed("yardstick", arrays).items():
                yardstick, _, score = key.partition(".")
                yardsticks.setdefault(yardstick, {})[score] = of_slices
            for one in (values, *yardsticks.values()):
                for name, of_slices in one.items():
                    check_array(name, of_slices, "f", (count,))
            return cls(slices, values, yardsticks), facts


def _prefixed(prefix: str, arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": np.asarray(array) for name, array in arrays.items()}


def _unprefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{prefix}."
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}


def _check_slices(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Refuses arrays of other types or lengths; returns the numbers of slices and patients."""
    count, patients = len(arrays["slices.index"]), len(arrays["slices.patients"])
    for name, kinds, length in (
        ("index", "iu", count),
        ("patient", "iu", count),
        ("number", "iu", count),
        ("tumour", "b", count),
        ("patients", "U", patients),
        ("whole", "b", patients),
    ):
        check_array(name, arrays[f"slices.{name}"], kinds, (length,))
    if "slices.holes" in arrays:
        check_array("holes", arrays["slices.holes"], "b", (patients,))
    positions = arrays["slices.patient"]
    if count and not 0 <= int(positions.min()) <= int(positions.max()) < patients:
        raise ValueError("a slice belongs to no patient of the file")
    return count, patients


def _check_segmentation(arrays: Mapping[str, np.ndarray], regions: int) -> None:
    count, patients = _check_slices(arrays)
    check_array("counts", arrays["counts"], "iu", (count, regions, 3))
    check_array("spacing_mm", arrays["spacing_mm"], "f", (patients, 3))
    check_array("surfels", arrays["surfels"], "f", (patients, None, len(SURFEL_FIELDS)))
    check_array("lesions", arrays["lesions"], "f", (patients, None, len(LESION_FIELDS)))
    for prefix, length in (("surface", count), ("volume_surface", patients)):
        for name, values in _unprefixed(prefix, arrays).items():
            check_array(f"{prefix}.{name}", values, "fiu", (length, regions))


def _write(path: Path, stage: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    head = TallyHead(stage, facts).to_json()
    with atomic_open(path, "wb") as file:
        np.savez_compressed(file, head=np.array(json.dumps(head)), **arrays)  # type: ignore[arg-type]


@contextmanager
def _opened(path: Path, stage: str) -> Iterator[tuple[Mapping[str, np.ndarray], dict[str, Any]]]:
    """The arrays of a tally of `stage`, and its facts."""
    if not path.exists():
        raise BratsError(f"{path}: not there; {REEVALUATE_HINT}")
    with open_npz(path, f"remove it, and {REEVALUATE_HINT}") as arrays:
        head = TallyHead.read(arrays)
        if head.stage != stage:
            raise BratsError(
                f"{path}: a tally of '{head.stage}', not of '{stage}'; {REEVALUATE_HINT}"
            )
        yield arrays, head.facts
