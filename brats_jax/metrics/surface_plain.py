"""Distances between boundaries by their definition: the plain form of the other two backends.

Whole arrays, SciPy, float64; no crops, no search trees, no threads.
"""

from collections.abc import Sequence

import numpy as np

from brats_jax.metrics.surface_device import ROUNDING
from brats_jax.metrics.surface_host import Region


def statistics(
    prediction: np.ndarray,
    target: np.ndarray,
    regions: Sequence[Region],
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> tuple[np.ndarray, ...]:
    """The fields of `surface.SurfaceStatistics`; see `surface_host.statistics`."""
    rows = [
        _of_pair(_mask(p, region), _mask(t, region), spacing_mm, tolerance_mm)
        for p, t in zip(prediction, target, strict=True)
        for region in regions
    ]
    return tuple(np.asarray(rows, np.float64).reshape(-1, 9).T)


def _mask(values: np.ndarray, region: Region) -> np.ndarray:
    return values.astype(bool) if region is None else np.isin(values, region)


def _of_pair(
    prediction: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, ...], tolerance_mm: float
) -> tuple[float, ...]:
    from scipy import ndimage  # here, so that a training starts without it

    pred, gt = (m & ~ndimage.binary_erosion(m) for m in (prediction, target))
    n_pred, n_gt = int(np.count_nonzero(pred)), int(np.count_nonzero(gt))
    if not n_pred or not n_gt:
        return (np.nan, n_pred, np.nan, n_gt, np.nan, np.nan, np.nan, 0, 0)
    to_gt, to_pred = (
        ndimage.distance_transform_edt(~to, sampling=spacing_mm)[at]
        for at, to in ((pred, gt), (gt, pred))
    )
    limit = tolerance_mm * (1 + ROUNDING)
    both = np.concatenate([to_gt, to_pred])
    percentiles = [np.percentile(d, 95) for d in (to_gt, to_pred, both)]
    within = [int(np.count_nonzero(d <= limit)) for d in (to_gt, to_pred)]
    return (to_gt.sum(), n_pred, to_pred.sum(), n_gt, *percentiles, *within)
