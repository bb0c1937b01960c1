"""Optional cleaning of predicted labels, and the volumes of the tumour's parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from brats_jax.data.modalities import CLASSES, LABEL_SETS

_NCR, _ET = CLASSES.index("NCR/NET"), CLASSES.index("ET")
_TOUCHING_CORNERS = np.ones((3, 3, 3), bool)  # 26-connected

# The regions whose volumes are estimated: all but the background.
MEASURED = {name: values for name, values in LABEL_SETS.items() if name != CLASSES[0]}


@dataclass(frozen=True)
class Cleaning:
    """Cleaning of labels; none by default.

    Attributes:
      min_component_mm3: connected components of the tumour smaller than this become background.
      min_et_mm3: if a case has less ET than this, its ET becomes NCR/NET.
      clear_air: tumour in air becomes background, before the sizes are applied.
      fitted: the names of the settings that come from a fit on patients, not from the user.
      note: on the fit, for readers of the results; or ''.
    """

    min_component_mm3: float = 0.0
    min_et_mm3: float = 0.0
    clear_air: bool = False
    fitted: tuple[str, ...] = field(default=(), compare=False)
    note: str = field(default="", compare=False)

    def apply(
        self, labels: np.ndarray, voxel_mm3: float, air: np.ndarray | None = None
    ) -> np.ndarray:
        """Cleans labels, which stay as they are.

        Args:
          labels: uint8[slices, H, W].
          voxel_mm3: volume of a voxel.
          air: bool[slices, H, W], at least where the labels are tumour; needed by `clear_air`.
        """
        if self.clear_air:
            assert air is not None
            labels = remove_in_air(labels, air)
        if self.min_component_mm3 > 0:
            labels = remove_small_components(labels, self.min_component_mm3 / voxel_mm3)
        if self.min_et_mm3 > 0:
            labels = relabel_small_et(labels, self.min_et_mm3 / voxel_mm3)
        return labels

    def emptied(self, before: np.ndarray, after: np.ndarray, voxel_mm3: float) -> str:
        """A note on a region of which nothing is left, for readers of the result; or ''.

        Args:
          before, after: labels uint8[slices, H, W] without and with the cleaning.
          voxel_mm3: volume of a voxel.
        """
        if after is before:
            return ""
        for region, holds in (("WT", _is_tumour), ("ET", _is_et)):
            voxels = int(np.count_nonzero(holds(before)))
            if voxels and not holds(after).any():
                ml = voxels * voxel_mm3 / 1000
                amount = f"{ml:.1f}" if ml >= 1 else f"{ml:.2g}"
                return f"cleaning left nothing of {amount} ml of {region} ({self.describe()})"
        return ""

    def describe(self) -> str:
        """What it does, in words; '' for no cleaning."""
        cleared = ["tumour in air is removed"] * self.clear_air
        effects = {
            "min_component_mm3": "components below {:.10g} mm3 are removed",
            "min_et_mm3": "ET below {:.10g} mm3 becomes NCR/NET",
        }
        sizes = [
            effect.format(getattr(self, name)) + " (fitted)" * (name in self.fitted)
            for name, effect in effects.items()
            if getattr(self, name) > 0
        ]
        return ", ".join([*cleared, *sizes])


def tumour_in_air(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
    """bool[slices, H, W]: the tumour where every modality is 0.

    Args:
      labels: uint8[slices, H, W].
      images: real[slices, H, W, C], intensities of a scan.
    """
    tumour = _is_tumour(labels)
    found = np.zeros_like(tumour)
    # Only of the few tumour voxels: the images take hundreds of megabytes.
    found[tumour] = ~images[tumour].any(axis=-1)
    return found


def remove_in_air(labels: np.ndarray, air: np.ndarray) -> np.ndarray:
    """Sets tumour in air, bool[slices, H, W], to background; no image shows a tumour there."""
    wrong = _is_tumour(labels) & air
    return np.where(wrong, np.uint8(0), labels) if wrong.any() else labels


class TumourComponents(NamedTuple):
    """The 26-connected components of all tumour in a scan.

    Attributes:
      box: of the tumour, in the scan.
      numbers: int32[box], the component of each voxel; 0: no tumour.
      voxels: int64[n + 1], the size of each component.
    """

    box: tuple[slice, ...]
    numbers: np.ndarray
    voxels: np.ndarray


def tumour_components(labels: np.ndarray) -> TumourComponents | None:
    """The components in labels uint8[slices, H, W]; None without tumour.

    A component may have several classes.
    """
    from scipy import ndimage  # here, because few predictions are cleaned

    tumour = _is_tumour(labels)
    boxes = ndimage.find_objects(tumour.astype(np.uint8))
    if not boxes:
        return None
    (box,) = boxes  # most of a scan has none
    numbers, count = ndimage.label(tumour[box], _TOUCHING_CORNERS)
    return TumourComponents(box, numbers, np.bincount(numbers.ravel(), minlength=count + 1))


def remove_small_components(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Sets 26-connected components of the tumour to background if they have fewer voxels.

    Args:
      labels: uint8[slices, H, W]; a component may have several classes, so that no hole appears.
      min_voxels: size of the smallest component that stays.
    """
    cleaned = labels.copy()
    if found := tumour_components(labels):
        small = found.voxels < min_voxels
        small[0] = False
        cleaned[found.box][small[found.numbers]] = 0
    return cleaned


def relabel_small_et(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Relabels ET as NCR/NET in a case with fewer ET voxels than `min_voxels`.

    The challenges give a case without ET a score of 0 for a single wrong ET voxel, else 1.

    Reference: Isensee et al. 2018, https://arxiv.org/abs/1809.10483 (section 2.6)
    """
    enhancing = _is_et(labels)
    if not 0 < enhancing.sum() < min_voxels:
        return labels
    return np.where(enhancing, np.uint8(_NCR), labels)


def _is_tumour(labels: np.ndarray) -> np.ndarray:
    return labels != 0


def _is_et(labels: np.ndarray) -> np.ndarray:
    return labels == _ET


class VolumeEstimate(NamedTuple):
    """A volume in ml, and its range over the averaged predictions (None if there is only one)."""

    ml: float
    low_ml: float | None
    high_ml: float | None


def volumes(
    labels: np.ndarray,
    views: np.ndarray,
    voxel_mm3: float,
    cleaning: Cleaning,
    air: np.ndarray | None = None,
) -> Mapping[str, VolumeEstimate]:
    """Volumes by class and region.

    Args:
      labels: uint8[slices, H, W], cleaned.
      views: uint8[V, slices, H, W], the labels of each fold and flip; cleaned here.
      voxel_mm3: volume of a voxel.
      cleaning: the cleaning of `labels`.
      air: as in `Cleaning.apply`.

    Returns:
      By name, the volume and its range. The range is over the views and `labels`, whose volume may
      lie outside the views'. It shows how much the models disagree; it is no confidence interval.
    """
    own = _count(labels)
    others = np.array([_count(cleaning.apply(view, voxel_mm3, air)) for view in views])
    found = {}
    for name, values in MEASURED.items():
        chosen = list(values)
        ml = own[chosen].sum() * voxel_mm3 / 1000
        low = high = None
        if len(others):
            each = others[:, chosen].sum(axis=1) * voxel_mm3 / 1000
            low, high = float(min(ml, each.min())), float(max(ml, each.max()))
        found[name] = VolumeEstimate(float(ml), low, high)
    return found


def _count(labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels.ravel(), minlength=len(CLASSES))
