"""Optional cleaning of predicted labels, and the volumes of the tumour's parts."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    min_component_mm3: float = 0.0
    min_et_mm3: float = 0.0

    def apply(self, labels: np.ndarray, voxel_mm3: float) -> np.ndarray:
        """Applies both, in this order, to labels uint8[slices, H, W], which stay as they are."""
        if self.min_component_mm3 > 0:
            labels = remove_small_components(labels, self.min_component_mm3 / voxel_mm3)
        if self.min_et_mm3 > 0:
            labels = relabel_small_et(labels, self.min_et_mm3 / voxel_mm3)
        return labels


def remove_small_components(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Sets 26-connected components of the tumour to background if they have fewer voxels.

    Args:
      labels: uint8[slices, H, W]; a component may have several classes, so that no hole appears.
      min_voxels: size of the smallest component that stays.
    """
    from scipy import ndimage  # here, because few predictions are cleaned

    cleaned = labels.copy()
    tumour = labels != 0
    boxes = ndimage.find_objects(tumour.astype(np.uint8))
    if not boxes:
        return cleaned
    (box,) = boxes  # of all tumour: most of a scan has none
    components, count = ndimage.label(tumour[box], _TOUCHING_CORNERS)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    small = sizes < min_voxels
    small[0] = False
    cleaned[box][small[components]] = 0
    return cleaned


def relabel_small_et(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Relabels ET as NCR/NET in a case with fewer ET voxels than `min_voxels`.

    The challenges give a case without ET a score of 0 for a single wrong ET voxel, else 1.

    Reference: Isensee et al. 2018, https://arxiv.org/abs/1809.10483 (section 2.6)
    """
    enhancing = labels == _ET
    if not 0 < enhancing.sum() < min_voxels:
        return labels
    return np.where(enhancing, np.uint8(_NCR), labels)


class VolumeEstimate(NamedTuple):
    """A volume in ml, and its range over the averaged predictions (None if there is only one)."""

    ml: float
    low_ml: float | None
    high_ml: float | None


def volumes(
    labels: np.ndarray, views: np.ndarray, voxel_mm3: float, cleaning: Cleaning
) -> Mapping[str, VolumeEstimate]:
    """Volumes by class and region.

    Args:
      labels: uint8[slices, H, W], cleaned.
      views: uint8[V, slices, H, W], the labels of each fold and flip; cleaned here.
      voxel_mm3: volume of a voxel.
      cleaning: the cleaning of `labels`.

    Returns:
      By name, the volume and its range. The range is over the views and `labels`, whose volume may
      lie outside the views'. It shows how much the models disagree; it is no confidence interval.
    """
    own = _count(labels)
    others = np.array([_count(cleaning.apply(view, voxel_mm3)) for view in views])
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
