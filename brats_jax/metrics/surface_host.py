"""Distances between boundaries on the host: SciPy, cropped to the masks, on threads.

Distances are computed at boundary pixels alone, and percentiles from a partial sort of them.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from brats_jax.metrics.surface_device import ROUNDING, interior

# A mask as a set of labels; None where the arrays are masks already.
Region = tuple[int, ...] | None

# Pixels of the box for each boundary point, by number of dimensions, above which a search tree is
# faster than the transform: measured on tumours in slices of 240 x 240 and in their volumes.
_TREE_FROM = {2: 12, 3: 8}


def statistics(
    prediction: np.ndarray,
    target: np.ndarray,
    regions: Sequence[Region],
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> tuple[np.ndarray, ...]:
    """The fields of `surface.SurfaceStatistics`, one value for each array and region.

    Args:
      prediction, target: bool or int[B, H, W] or [B, H, W, D].
      regions: labels of each mask, or None for arrays that are masks.
      spacing_mm: pixel size along each axis.
      tolerance_mm: distance up to which a pixel counts as within.

    Returns:
      Nine arrays [B * len(regions)], regions fastest.
    """

    def one(work: tuple[int, Region]) -> tuple[float | int, ...]:
        b, region = work
        masks = _mask(prediction[b], region), _mask(target[b], region)
        return _pair(*masks, spacing_mm, tolerance_mm)

    work = [(b, region) for b in range(len(prediction)) for region in regions]
    workers = min(len(work), os.cpu_count() or 1, 8)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            rows = list(pool.map(one, work))
    else:
        rows = [one(w) for w in work]
    return tuple(np.asarray(rows, np.float64).reshape(-1, 9).T)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of one mask that touch its outside through an edge, or a face in 3D."""
    return mask & ~interior(np.pad(mask, 1), mask.ndim)


def _mask(values: np.ndarray, region: Region) -> np.ndarray:
    if region is None:
        return values if values.dtype == bool else values.astype(bool)
    mask = values == region[0]
    for label in region[1:]:
        mask |= values == label
    return mask


def _pair(
    prediction: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, ...], tolerance_mm: float
) -> tuple[float | int, ...]:
    box = bounding_box(prediction | target)
    surface_p, surface_g = boundary(prediction[box]), boundary(target[box])
    n_p, n_g = int(np.count_nonzero(surface_p)), int(np.count_nonzero(surface_g))
    nan = np.nan
    if not n_p or not n_g:
        return nan, n_p, nan, n_g, nan, nan, nan, 0, 0
    to_gt = distances(surface_p, surface_g, spacing_mm)
    to_pred = distances(surface_g, surface_p, spacing_mm)
    limit = tolerance_mm * (1 + ROUNDING)
    return (
        float(to_gt.sum()),
        n_p,
        float(to_pred.sum()),
        n_g,
        _percentile_95(to_gt),
        _percentile_95(to_pred),
        _percentile_95(np.concatenate([to_gt, to_pred])),
        int(np.count_nonzero(to_gt <= limit)),
        int(np.count_nonzero(to_pred <= limit)),
    )


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around the pixels that are set; an empty box where none is."""
    from scipy import ndimage  # here and below, so that a training starts without it

    found = ndimage.find_objects(mask.view(np.int8), max_label=1)[0]
    return found or (slice(0, 0),) * mask.ndim


def distances(at: np.ndarray, to: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from each pixel set in `at` to the nearest one set in `to`.

    Args:
      at, to: bool arrays of one shape, each with a pixel set. Crop them for speed.
      spacing_mm: pixel size along each axis.

    Returns:
      float64[count of `at`], in the order in which `at` is indexed.
    """
    # Both are exact. The transform's time grows with the area of the box, the tree's with the
    # number of points: for background, whose boundary frames the slice, the tree is far faster.
    points = np.count_nonzero(at) + np.count_nonzero(to)
    find = distances_by_tree if at.size > _TREE_FROM[at.ndim] * points else distances_by_transform
    return find(at, to, spacing_mm)


def distances_by_transform(
    at: np.ndarray, to: np.ndarray, spacing_mm: tuple[float, ...]
) -> np.ndarray:
    """`distances` by a transform of the whole box."""
    from scipy import ndimage

    # SciPy finds the nearest point of every pixel, then the distances. The second half is needed
    # on the boundary alone.
    nearest = ndimage.distance_transform_edt(
        ~to, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    squared = np.float64(0)
    for here, there, step in zip(np.nonzero(at), nearest, spacing_mm, strict=True):
        squared = squared + np.square((here - there[at]) * step)
    return np.sqrt(squared)


def distances_by_tree(at: np.ndarray, to: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """`distances` by a search tree of the points."""
    from scipy import spatial

    asked = ~to[at]  # a pixel that is set in both has distance 0
    result = np.zeros(len(asked))
    if asked.any():
        tree = spatial.cKDTree(
            np.argwhere(to) * spacing_mm, balanced_tree=False, compact_nodes=False
        )
        result[asked] = tree.query(np.argwhere(at)[asked] * spacing_mm)[0]
    return result


def _percentile_95(values: np.ndarray) -> float:
    """`np.percentile(values, 95)` without its checks, which take longer than a slice's boundary."""
    low, hundredths = divmod(95 * (len(values) - 1), 100)
    high = min(low + 1, len(values) - 1)
    ordered = np.partition(values, (low, high))
    return float(ordered[low] + (ordered[high] - ordered[low]) * (hundredths / 100))
