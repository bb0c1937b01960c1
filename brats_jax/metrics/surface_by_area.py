"""Distances between surfaces weighted by area, as in DeepMind's surface-distance.

Here the surface runs between voxels. Its elements (surfels) lie at the corners of voxels, one
wherever the 2 x 2 x 2 voxels around a corner are neither all in the mask nor all outside, and
each has its area as weight. The BraTS challenges since 2023 measure HD95, and NSD where they
report it, in this way. This is host code on every platform.

Reference: https://github.com/google-deepmind/surface-distance
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from skimage import measure

from brats_jax.metrics import surface_device, surface_host

# The bit that each of the eight voxels around a corner sets in the corner's code.
_BITS = (1 << np.arange(8)).reshape(2, 2, 2)


class SurfaceElements(NamedTuple):
    """Distances in mm and areas in mm^2 of the surface elements of two masks.

    Attributes:
      pred_to_gt: float64[N], from every element of the prediction to the nearest of the target.
      pred_area: float64[N].
      gt_to_pred: float64[M], the same back.
      gt_area: float64[M].
    """

    pred_to_gt: np.ndarray
    pred_area: np.ndarray
    gt_to_pred: np.ndarray
    gt_area: np.ndarray


def surface_elements(
    prediction: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, ...]
) -> SurfaceElements | None:
    """The surface elements of two masks.

    Args:
      prediction, target: bool[H, W, D].
      spacing_mm: voxel size along each axis.

    Returns:
      `SurfaceElements`; None where either mask is empty.
    """
    box = surface_host.bounding_box(prediction | target)
    codes = [_codes(mask[box]) for mask in (prediction, target)]
    pred, gt = ((code > 0) & (code < 255) for code in codes)
    if not pred.any() or not gt.any():
        return None
    area = _areas(spacing_mm)
    return SurfaceElements(
        surface_host.distances(pred, gt, spacing_mm),
        area[codes[0][pred]],
        surface_host.distances(gt, pred, spacing_mm),
        area[codes[1][gt]],
    )


def hd95(elements: SurfaceElements | None) -> float:
    """95th percentile Hausdorff distance by area, the larger of the two directions.

        max over directions of min { d : area of elements at most d away >= 95 % of the area }

    Returns:
      mm; infinite where either mask is empty.

    Reference: https://github.com/google-deepmind/surface-distance
    """
    if elements is None:
        return math.inf
    return max(
        _percentile_95(elements.pred_to_gt, elements.pred_area),
        _percentile_95(elements.gt_to_pred, elements.gt_area),
    )


def surface_dice(elements: SurfaceElements | None, tolerance_mm: float) -> float:
    """Normalised surface Dice (NSD) by area; `surface.surface_dice` counts pixels instead.

        NSD = (area within t of the other surface, of both) / (area of both)

    Returns:
      0..1; NaN where either mask is empty.

    Reference: Nikolov et al. 2021, https://doi.org/10.2196/26151
    """
    if elements is None:
        return math.nan
    limit = tolerance_mm * (1 + surface_device.ROUNDING)
    within = elements.pred_area[elements.pred_to_gt <= limit].sum()
    within += elements.gt_area[elements.gt_to_pred <= limit].sum()
    return float(within / (elements.pred_area.sum() + elements.gt_area.sum()))


def _percentile_95(distances: np.ndarray, areas: np.ndarray) -> float:
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / np.sum(areas[order])
    return float(distances[order[min(int(np.searchsorted(share, 0.95)), len(share) - 1)]])


def _codes(mask: np.ndarray) -> np.ndarray:
    """uint8[H + 1, W + 1, D + 1]: one bit for each of the eight voxels at a corner."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for offset in np.ndindex(2, 2, 2):
        part = padded[tuple(slice(o, o + n) for o, n in zip(offset, codes.shape, strict=True))]
        codes += part * np.uint8(_BITS[offset])
    return codes


@functools.cache
def _areas(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """float64[256]: area in mm^2 of the surface that marching cubes draws for each code.

    Drawn for at most four voxels in the mask, and used for the complement too: where the original
    cubes are ambiguous the two differ, and DeepMind's table has the former.
    """
    areas = np.zeros(256)
    for code in range(1, 255):
        corners = (code & _BITS) > 0
        if corners.sum() > 4:
            corners = ~corners
        vertices, faces, _, _ = measure.marching_cubes(
            corners.astype(np.float32), 0.5, method="lorensen"
        )
        areas[code] = measure.mesh_surface_area(vertices.astype(np.float64) * spacing_mm, faces)
    return areas
