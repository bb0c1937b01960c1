"""A segmented case as arrays, for the overview and the page."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from brats_jax.data.modalities import CLASSES, LABEL_SETS, MODALITIES, NUM_CLASSES, REGIONS
from brats_jax.data.normalise import brain_mask
from brats_jax.data.scans.grids import voxel_sizes_mm
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError

# What `case_view` takes for the uncertainty.
ENTROPY = (
    f"entropy of the class probabilities divided by ln {NUM_CLASSES}, without unit; 0 where one "
    f"class is certain, 1 where all {NUM_CLASSES} ({', '.join(CLASSES)}) are equally probable"
)


@dataclasses.dataclass(frozen=True)
class CaseView:
    """A case and its segmentation, on a grid of D slices of H x W pixels.

    H runs to the patient's Left, W to Posterior, D to Superior (LPS).

    Attributes:
      name: the name of the case.
      images: float[D, H, W, 4], modalities in canonical order, raw intensities, background 0. A
        modality that is 0 everywhere is absent.
      labels: integer[D, H, W], the predicted labels as in `modalities.CLASSES` (ET is 3).
      truth: integer[D, H, W], the true labels, or None.
      uncertainty: float[D, H, W] from 0 to 1, or None.
      uncertainty_is: the quantity of the uncertainty, and what 0 and 1 mean, in words.
      ranges_ml: by class or region, the smallest and largest volume of the averaged predictions.
      spacing_mm: voxel size along H, W and D (x, y, z).
      facts: origin of the prediction (model hash, settings, version), by name; shown as a list.
      record: the whole record of the prediction, JSON-able; shown as text.
      notes: warnings for the reader, a line each; shown before everything else.

    Raises:
      BratsError: arrays of different shapes, or with values out of range.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    uncertainty_is: str = "0 is certain, 1 is most uncertain"
    ranges_ml: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.images.shape[:3]
        if self.images.ndim != 4 or self.images.shape[3] != len(MODALITIES):
            raise BratsError(
                f"{self.name}: images are {list(self.images.shape)}; give [D, H, W, 4], the "
                f"modalities {', '.join(MODALITIES)}"
            )
        for field in ("labels", "truth", "uncertainty"):
            array = getattr(self, field)
            if array is not None and array.shape != shape:
                raise BratsError(
                    f"{self.name}: {field} has the shape {list(array.shape)}, images {list(shape)};"
                    " give all on one grid"
                )
        for field in ("labels", "truth"):
            array = getattr(self, field)
            if array is not None and not np.isin(array, range(NUM_CLASSES)).all():
                raise BratsError(f"{self.name}: {field} has other values than 0 to 3 (ET is 3)")
        if not np.isfinite(self.images).all():
            raise BratsError(f"{self.name}: images has values that are not finite; repair them")
        if self.uncertainty is not None and not (
            (self.uncertainty >= 0).all() and (self.uncertainty <= 1).all()
        ):
            raise BratsError(f"{self.name}: uncertainty is not within 0 and 1; scale it")

    @cached_property
    def brain(self) -> np.ndarray:
        """bool[D, H, W]: where any modality is not 0."""
        return brain_mask(self.images)

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The modalities that are not absent; all of them for a case without any voxel."""
        present = tuple(m for c, m in enumerate(MODALITIES) if self.images[..., c].any())
        return present or MODALITIES

    @property
    def under(self) -> str:
        """The modality under the labels: T1Gd if present, else the first."""
        return "t1gd" if "t1gd" in self.present else self.present[0]

    def volumes_ml(self, labels: np.ndarray) -> dict[str, float]:
        """Volumes in ml of the regions WT, TC and ET, then of the other classes."""
        counts = np.bincount(labels.ravel().astype(np.uint8), minlength=NUM_CLASSES)
        ml = counts * (np.prod(self.spacing_mm) / 1000)
        named = [*REGIONS, *(name for name in CLASSES[1:] if name not in REGIONS)]
        return {name: float(ml[list(LABEL_SETS[name])].sum()) for name in named}

    @cached_property
    def dice_words(self) -> str:
        """'3D Dice against the truth: WT 0.912, ...'; '' without a truth."""
        return "" if self.truth is None else dice_words(self.labels, self.truth)

    def region_of_interest(self) -> np.ndarray:
        """bool[D, H, W]: the tumour, predicted or true; the brain of a case without tumour."""
        tumour = self.labels != 0
        if self.truth is not None:
            tumour = tumour | (self.truth != 0)
        return tumour if tumour.any() else self.brain


def dice_words(labels: np.ndarray, truth: np.ndarray) -> str:
    """'3D Dice against the truth: WT 0.912, TC 0.803, ET 0.000 (none in the truth)'.

        Dice = 2 |P and T| / (|P| + |T|)

    over whole volumes, from one joint histogram on the host: nothing is compiled.

    Args:
      labels, truth: integer[D, H, W], values from 0 to 3 (ET is 3).
    """
    pairs = NUM_CLASSES * labels.astype(np.uint8) + truth.astype(np.uint8)
    # [predicted, true] in voxels
    joint = np.bincount(pairs.ravel(), minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
    words = []
    for name, values in REGIONS.items():
        member = list(values)
        predicted, true = int(joint[member].sum()), int(joint[:, member].sum())
        if not predicted and not true:
            words.append(f"no {name} in either")
            continue
        dice = 2 * int(joint[np.ix_(member, member)].sum()) / (predicted + true)
        absent = (
            "" if predicted and true else f" (none {'in the truth' if predicted else 'predicted'})"
        )
        words.append(f"{name} {dice:.3f}{absent}")
    return f"3D Dice against the truth: {', '.join(words)}"


class SegmentedResult(Protocol):
    """The result of a segmentation, such as `inference.results.Segmented`."""

    @property
    def scan(self) -> Scan: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def entropy(self) -> np.ndarray | None: ...

    @property
    def volumes(self) -> Mapping[str, "EstimatedVolume"]: ...


class EstimatedVolume(Protocol):
    """The range of a volume, such as that of `inference.postprocess.VolumeEstimate`."""

    @property
    def low_ml(self) -> float | None: ...

    @property
    def high_ml(self) -> float | None: ...


class LoadedModel(Protocol):
    """A model that describes its predictions, such as `inference.model.Model`."""

    def facts(self, scan: Scan) -> dict[str, str]: ...

    def describe_case(self, scan: Scan) -> dict[str, Any]: ...


def case_view(
    model: LoadedModel,
    found: SegmentedResult,
    truth: np.ndarray | None = None,
    record: Mapping[str, Any] | None = None,
) -> CaseView:
    """The view of a scan that a model has segmented.

    Args:
      model: the model.
      found: its segmentation. The uncertainty is the entropy divided by ln 4, if there is one.
      truth: uint8[slices, H, W], true labels (see `data.truth.read_truth`), or None.
      record: the record to show, JSON-able; None for `model.describe_case`. Its notes are also
        shown as those of the case.
    """
    scan, uncertainty = found.scan, None
    if found.entropy is not None:
        uncertainty = np.clip(found.entropy / math.log(NUM_CLASSES), 0, 1)
    record = model.describe_case(scan) if record is None else record
    return CaseView(
        name=scan.name,
        images=scan.images,
        labels=found.labels,
        truth=truth,
        uncertainty=uncertainty,
        spacing_mm=voxel_sizes_mm(scan.grid.affine),
        facts=model.facts(scan),
        record=record,
        notes=tuple(record.get("notes", ())),
        uncertainty_is=ENTROPY,
        ranges_ml={
            name: (volume.low_ml, volume.high_ml)
            for name, volume in found.volumes.items()
            if volume.low_ml is not None and volume.high_ml is not None
        },
    )
