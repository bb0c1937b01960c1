"""ASD, HD95 and surface Dice in every variant, as functions of the same statistics."""

import math
from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float, Int

from brats_jax.errors import BratsError
from brats_jax.metrics.array_namespace import array_namespace


class EmptyRule(NamedTuple):
    """Distance in mm where both masks are empty, and where one is."""

    both_empty: float
    one_empty: float


# Distances where a mask is empty and has no boundary. Always explicit: MONAI's percentile=95 drops
# NaN, so its HD95 improves as misses grow.
DISTANCE_CONVENTIONS: dict[str, EmptyRule] = {
    # Left out of means.
    "present_only": EmptyRule(math.nan, math.nan),
    # A missed or falsely predicted region has the diagonal of the volume in mm.
    "brats2020": EmptyRule(0.0, math.sqrt(240**2 + 240**2 + 155**2)),
    # The same, rounded up, https://github.com/rachitsaluja/BraTS-2023-Metrics
    "brats2023": EmptyRule(0.0, 374.0),
    # The plain means with the penalty of BraTS 2020 where one mask only holds the region.
    "penalised": EmptyRule(math.nan, math.sqrt(240**2 + 240**2 + 155**2)),
}

HD95_VARIANTS: dict[str, str] = {
    "pooled": "95th percentile of the distances in both directions taken together (medpy)",
    "max_directed": "the larger of the two directed 95th percentiles (MONAI, DeepMind)",
}


class SurfaceStatistics(NamedTuple):
    """Sufficient statistics of the surface metrics, one value for each pair of masks.

    Sums and percentiles are NaN, and the counts within the tolerance 0, where either mask is
    empty. Percentiles interpolate linearly, as `numpy.percentile` does.

    Attributes:
      sum_pred_to_gt: float32[...], distances in mm from each boundary pixel of the
        prediction to the nearest one of the target, summed.
      n_pred: int32[...], boundary pixels of the prediction.
      sum_gt_to_pred: float32[...], the same from the target to the prediction.
      n_gt: int32[...], boundary pixels of the target.
      p95_pred_to_gt, p95_gt_to_pred: float32[...], 95th percentile in mm of either direction.
      p95_pooled: float32[...], that of both directions' distances together.
      n_pred_within, n_gt_within: int32[...], boundary pixels at most the tolerance away from
        the other boundary.
    """

    sum_pred_to_gt: Float[Array | np.ndarray, "*n"]
    n_pred: Int[Array | np.ndarray, "*n"]
    sum_gt_to_pred: Float[Array | np.ndarray, "*n"]
    n_gt: Int[Array | np.ndarray, "*n"]
    p95_pred_to_gt: Float[Array | np.ndarray, "*n"]
    p95_gt_to_pred: Float[Array | np.ndarray, "*n"]
    p95_pooled: Float[Array | np.ndarray, "*n"]
    n_pred_within: Int[Array | np.ndarray, "*n"]
    n_gt_within: Int[Array | np.ndarray, "*n"]


def pooled_mean(statistics: SurfaceStatistics) -> Float[Array, "*n"]:
    """Average surface distance pooled over both boundaries: the paper's ASD.

        ASD(P, G) = (sum_p d(p, S_G) + sum_g d(g, S_P)) / (|S_P| + |S_G|)

    Equal to MONAI's `compute_average_surface_distance(symmetric=True)` and to medpy's `assd` since
    0.5.2; until 0.4 medpy's was `averaged_mean`.

    Returns:
      float32[...] in mm; NaN where either mask is empty.

    Reference: Taha & Hanbury 2015, https://doi.org/10.1186/s12880-015-0068-x
    """
    total = statistics.sum_pred_to_gt + statistics.sum_gt_to_pred
    return _ratio(total, statistics.n_pred + statistics.n_gt)


def directed_means(statistics: SurfaceStatistics) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Average surface distances from the prediction to the target and back.

        sum_p d(p, S_G) / |S_P|  and  sum_g d(g, S_P) / |S_G|

    Equal to medpy's `asd(prediction, target)` and `asd(target, prediction)`, connectivity=1.

    Returns:
      Two float32[...] in mm; NaN where either mask is empty.
    """
    return (
        _ratio(statistics.sum_pred_to_gt, statistics.n_pred),
        _ratio(statistics.sum_gt_to_pred, statistics.n_gt),
    )


def _ratio(
    total: Float[Array | np.ndarray, "*n"], count: Int[Array | np.ndarray, "*n"]
) -> Float[Array, "*n"]:
    xp = array_namespace(total, count)
    return xp.asarray(total / xp.maximum(count, 1), xp.float32)


def averaged_mean(statistics: SurfaceStatistics) -> Float[Array, "*n"]:
    """Mean of the two `directed_means`: medpy's `assd` until 0.4.

    Returns:
      float32[...] in mm; NaN where either mask is empty.
    """
    pred_to_gt, gt_to_pred = directed_means(statistics)
    return (pred_to_gt + gt_to_pred) / 2


def hd95(statistics: SurfaceStatistics, variant: str = "pooled") -> Float[Array, "*n"]:
    """95th percentile Hausdorff distance, under a named variant.

        pooled:        P95( {d(p, S_G)} and {d(g, S_P)} together )
        max_directed:  max( P95 {d(p, S_G)}, P95 {d(g, S_P)} )

    medpy's `hd95` pools. MONAI (`percentile=95`) and DeepMind take the larger direction;
    DeepMind, and with it the BraTS challenges since 2023, moreover weights by the area of the
    surface and does not interpolate: that number is `surface_by_area.hd95`.

    Args:
      statistics: of any shape.
      variant: a name in `HD95_VARIANTS`.

    Returns:
      float32[...] in mm; NaN where either mask is empty (see `fill_empty`).

    Raises:
      BratsError: the variant is unknown.
    """
    if variant not in HD95_VARIANTS:
        raise BratsError(
            f"unknown HD95 variant '{variant}'; valid names: {', '.join(HD95_VARIANTS)}"
        )
    xp = array_namespace(*statistics)
    if variant == "pooled":
        return xp.asarray(statistics.p95_pooled)
    return xp.maximum(statistics.p95_pred_to_gt, statistics.p95_gt_to_pred)


def surface_dice(
    statistics: SurfaceStatistics, empty: float | Float[Array, ""] = math.nan
) -> Float[Array, "*n"]:
    """Normalised surface Dice (NSD) at the statistics' tolerance, counting boundary pixels.

        NSD = (|{p : d(p, S_G) <= t}| + |{g : d(g, S_P) <= t}|) / (|S_P| + |S_G|)

    Equal to MONAI's `compute_surface_dice` without subvoxels. DeepMind's
    `compute_surface_dice_at_tolerance` is another number: its boundary runs between pixels, and
    each element has its length or area as weight (see `surface_by_area.surface_dice`).

    Args:
      statistics: of any shape.
      empty: the value where both masks are empty, NaN (left out) or 1 (agreement).

    Returns:
      float32[...] in 0..1; 0 where one mask is empty.

    Reference: Nikolov et al. 2021, https://doi.org/10.2196/26151
    """
    xp = array_namespace(*statistics)
    within = xp.asarray(statistics.n_pred_within + statistics.n_gt_within, xp.float32)
    total = xp.asarray(statistics.n_pred + statistics.n_gt, xp.float32)
    return xp.where(total > 0, within / xp.maximum(total, 1), empty)


def fill_empty(
    distances_mm: Float[Array | np.ndarray, "*n"], statistics: SurfaceStatistics, convention: str
) -> Float[Array, "*n"]:
    """Distances with the values that a named convention gives empty masks.

    Args:
      distances_mm: float[...], any mean or percentile made from `statistics`.
      statistics: the pairs that the distances belong to.
      convention: a name in `DISTANCE_CONVENTIONS`.

    Returns:
      float32[...] in mm.

    Raises:
      BratsError: the convention is unknown.
    """
    if convention not in DISTANCE_CONVENTIONS:
        raise BratsError(
            f"unknown distance convention '{convention}'; valid names: "
            f"{', '.join(DISTANCE_CONVENTIONS)}"
        )
    rule = DISTANCE_CONVENTIONS[convention]
    without = (statistics.n_pred == 0).astype(int) + (statistics.n_gt == 0)
    xp = array_namespace(distances_mm, *statistics)
    known = xp.where(without == 2, rule.both_empty, xp.asarray(distances_mm, xp.float32))
    return xp.where(without == 1, rule.one_empty, known)
