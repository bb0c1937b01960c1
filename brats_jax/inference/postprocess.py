"""What may be done to labels after the network: small pieces removed, a very small ET renamed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from brats_jax.data.modalities import CLASSES, REGIONS

_NCR, _ET = CLASSES.index("NCR/NET"), CLASSES.index("ET")
_TOUCHING_CORNERS = ndimage.generate_binary_structure(3, 3)  # 26-connected

# Whose volumes are told: the classes, then the regions that are not one of them.
MEASURED: dict[str, tuple[int, ...]] = {
    **{name: (value,) for value, name in enumerate(CLASSES) if value},
    **{name: labels for name, labels in REGIONS.items() if name not in CLASSES},
}


@dataclass(frozen=True)
class Cleaning:
    """What is done to labels; nothing by default.

    Attributes:
      min_component_mm3: connected pieces of the tumour smaller than this become background.
      min_et_mm3: if a case has less ET than this, its ET becomes NCR/NET.
    """

    min_component_mm3: float = 0.0
    min_et_mm3: float = 0.0

    def apply(self, labels: np.ndarray, voxel_mm3: float) -> np.ndarray:
        """Both, in this order, on uint8[slices, H, W]; the given array is left as it is."""
        if self.min_component_mm3 > 0:
            labels = remove_small_components(labels, self.min_component_mm3 / voxel_mm3)
        if self.min_et_mm3 > 0:
            labels = relabel_small_et(labels, self.min_et_mm3 / voxel_mm3)
        return labels


def remove_small_components(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Sets to background every 26-connected piece of the tumour of fewer voxels.

    Args:
      labels: uint8[slices, H, W]; all classes count together, so that no hole is torn.
      min_voxels: the least that stays.
    """
    cleaned = labels.copy()
    tumour = labels != 0
    boxes = ndimage.find_objects(tumour.astype(np.uint8))
    if not boxes:
        return cleaned
    (box,) = boxes  # one for all of it: most of a scan is none
    pieces, count = ndimage.label(tumour[box], _TOUCHING_CORNERS)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    small = sizes < min_voxels
    small[0] = False
    cleaned[box][small[pieces]] = 0
    return cleaned


def relabel_small_et(labels: np.ndarray, min_voxels: float) -> np.ndarray:
    """Renames ET to NCR/NET where a case has fewer voxels of it.

    The challenges score a case without ET all or nothing, so that a few wrong voxels cost it all.

    Reference: Isensee et al. 2018, https://arxiv.org/abs/1809.10483 (section 2.6)
    """
    enhancing = labels == _ET
    if not 0 < enhancing.sum() < min_voxels:
        return labels
    return np.where(enhancing, np.uint8(_NCR), labels)


class VolumeEstimate(NamedTuple):
    """A volume in ml, and the range of it and of the predictions averaged (None: only one)."""

    ml: float
    low_ml: float | None
    high_ml: float | None


def volumes(
    labels: np.ndarray, views: np.ndarray, voxel_mm3: float, cleaning: Cleaning
) -> Mapping[str, VolumeEstimate]:
    """Volumes by class and region.

    Args:
      labels: uint8[slices, H, W], cleaned.
      views: uint8[V, slices, H, W], what each fold and flip said; cleaned here alike. The range
        of all volumes, the answer's among them (a mean of probabilities may lie outside what its
        parts say), is no confidence interval: it tells how much the models disagree.
      voxel_mm3: volume of a voxel.
      cleaning: as done to `labels`.
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
