"""Exact distances between the boundaries of masks, in 2D and 3D: ASD, HD95, surface Dice.

A boundary is a mask minus its erosion by the cross (4-connected in 2D, 6-connected in 3D), where
pixels beyond the image are outside the mask: the result of `scipy.ndimage.binary_erosion` with
`border_value=0`, and the surface of medpy and MONAI. Distances are Euclidean, in mm. They are
taken once, as `SurfaceStatistics`; every variant of a metric is a function of these, defined in
`surface_scores` and re-exported here.

Three implementations give the same numbers to float32 rounding:

- "device" (`surface_device`): a separable transform, jitted and batched. Its work is H^2 W for
  each mask, (H + W) H W D in 3D: little for an accelerator, and about SciPy's time on a CPU.
- "host" (`surface_host`): SciPy, cropped to the masks' joint bounding box, on threads; several
  times faster on a CPU.
- "plain" (`surface_plain`): the definition. `runtime.forms` can select it in the place of the
  other two.

"auto" is "host" where JAX computes on a CPU, and "device" elsewhere and inside `jit`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Integer

from brats_jax.errors import BratsError
from brats_jax.metrics import surface_device, surface_host, surface_plain
from brats_jax.metrics.surface_scores import (
    DISTANCE_CONVENTIONS,
    HD95_VARIANTS,
    EmptyRule,
    SurfaceStatistics,
    averaged_mean,
    directed_means,
    fill_empty,
    hd95,
    pooled_mean,
    surface_dice,
)
from brats_jax.runtime import forms

__all__ = [
    "BACKENDS",
    "DISTANCE_CONVENTIONS",
    "HD95_VARIANTS",
    "EmptyRule",
    "SurfaceStatistics",
    "average_surface_distance",
    "averaged_mean",
    "boundary",
    "class_average_surface_distance",
    "class_surface_statistics",
    "directed_means",
    "fill_empty",
    "hd95",
    "pooled_mean",
    "region_surface_statistics",
    "surface_dice",
    "surface_statistics",
]

BACKENDS: tuple[str, ...] = ("auto", "host", "device", "plain")

# Pixel size along each axis; None stands for 1 mm along all of them.
Spacing = Sequence[float] | None
Masks = Bool[Array | np.ndarray, "b *space"]
Labels = Integer[Array | np.ndarray, "b *space"]


def boundary(mask: Bool[Array | np.ndarray, "..."], dims: int = 2) -> Bool[Array, "..."]:
    """Pixels of a mask that touch its outside through an edge (in 3D, a face).

        S_M = M and not (M eroded by the cross)

    Args:
      mask: bool[..., H, W] or bool[..., H, W, D]; beyond the image is outside, so a mask at
        the edge has boundary pixels there.
      dims: number of spatial axes, which come last: 2 or 3.

    Returns:
      bool, of the shape of `mask`.
    """
    return surface_device.boundary(mask, dims)


def surface_statistics(
    prediction: Masks,
    target: Masks,
    spacing_mm: Spacing = None,
    *,
    tolerance_mm: float = 1.0,
    backend: str = "auto",
) -> SurfaceStatistics:
    """Sums, counts and percentiles of the distances between two boundaries, both directions.

    Pooled, directed and averaged mean distances are ratios of these, and means over several
    slices are ratios of their sums. Percentiles do not add up: take those of a volume from the
    volume.

    Args:
      prediction, target: bool[B, H, W] or bool[B, H, W, D] masks.
      spacing_mm: pixel size along each axis, two or three lengths; 1 mm by default.
      tolerance_mm: distance up to which a boundary pixel counts as within.
      backend: "auto", "host", "device" or "plain" (see the top of this file).

    Returns:
      `SurfaceStatistics` of arrays [B].

    Raises:
      BratsError: shapes differ, a spacing is not positive, there are not as many as axes, the
        tolerance is negative, or the backend is unknown.
    """
    return _statistics("masks", prediction, target, None, spacing_mm, tolerance_mm, backend)


def region_surface_statistics(
    prediction: Labels,
    target: Labels,
    regions: Sequence[Sequence[int]],
    spacing_mm: Spacing = None,
    *,
    tolerance_mm: float = 1.0,
    backend: str = "auto",
) -> SurfaceStatistics:
    """`surface_statistics` of unions of labels, such as whole tumour and tumour core.

    Args:
      prediction, target: int[B, H, W] or int[B, H, W, D] label maps.
      regions: R sets of labels; a pixel with any of them belongs to the region.
      spacing_mm, tolerance_mm, backend: as in `surface_statistics`.

    Returns:
      `SurfaceStatistics` of arrays [B, R].

    Raises:
      BratsError: as `surface_statistics`, or a region has no labels.
    """
    sets = tuple(tuple(int(label) for label in region) for region in regions)
    if not sets or not all(sets):
        raise BratsError(f"regions {regions} must be sets of at least one label each")
    flat = _statistics("label maps", prediction, target, sets, spacing_mm, tolerance_mm, backend)
    return SurfaceStatistics(*(x.reshape(-1, len(sets)) for x in flat))


def class_surface_statistics(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    spacing_mm: Spacing = None,
    *,
    tolerance_mm: float = 1.0,
    backend: str = "auto",
) -> SurfaceStatistics:
    """`region_surface_statistics` of every class, background included.

    Returns:
      `SurfaceStatistics` of arrays [B, K].
    """
    return region_surface_statistics(
        prediction,
        target,
        [(k,) for k in range(num_classes)],
        spacing_mm,
        tolerance_mm=tolerance_mm,
        backend=backend,
    )


def average_surface_distance(
    prediction: Masks, target: Masks, spacing_mm: Spacing = None, *, backend: str = "auto"
) -> Float[Array, " b"]:
    """Mean distance between two boundaries, pooled over both (the paper's ASD).

        ASD(P, G) = (sum_p d(p, S_G) + sum_g d(g, S_P)) / (|S_P| + |S_G|)

    Arguments and errors are those of `surface_statistics`.

    Returns:
      float32[B] in mm; NaN where either mask is empty.

    Reference: Taha & Hanbury 2015, https://doi.org/10.1186/s12880-015-0068-x
    """
    return pooled_mean(surface_statistics(prediction, target, spacing_mm, backend=backend))


def class_average_surface_distance(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    spacing_mm: Spacing = None,
    *,
    backend: str = "auto",
) -> Float[Array, "b k"]:
    """`average_surface_distance` of every class of a label map, background included.

    Returns:
      float32[B, K] in mm; NaN where either map lacks the class.
    """
    return pooled_mean(
        class_surface_statistics(prediction, target, num_classes, spacing_mm, backend=backend)
    )


def _statistics(
    kind: str,
    prediction: Array | np.ndarray,
    target: Array | np.ndarray,
    regions: tuple[tuple[int, ...], ...] | None,
    spacing_mm: Spacing,
    tolerance_mm: float,
    backend: str,
) -> SurfaceStatistics:
    """Statistics of masks [B], or of the regions of label maps [B * R]."""
    if prediction.shape != target.shape or prediction.ndim not in (3, 4):
        raise BratsError(
            f"prediction {prediction.shape} and target {target.shape} must be {kind} "
            "[B, H, W] or [B, H, W, D] of one shape"
        )
    dims = prediction.ndim - 1
    spacing = (1.0,) * dims if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    if len(spacing) != dims or not all(0 < s < math.inf for s in spacing):
        raise BratsError(f"spacing_mm {spacing_mm} must be {dims} positive lengths in mm")
    if not tolerance_mm >= 0:
        raise BratsError(f"tolerance_mm {tolerance_mm} must be a length in mm, 0 or more")
    chosen = _chosen_backend(backend, prediction, target)
    if chosen != "device":
        module = surface_host if chosen == "host" else surface_plain
        sums = module.statistics(
            np.asarray(prediction), np.asarray(target), regions or (None,), spacing, tolerance_mm
        )
        kinds = ("float32", "int32") * 2 + ("float32",) * 3 + ("int32",) * 2
        return SurfaceStatistics(*(jnp.asarray(x, t) for x, t in zip(sums, kinds, strict=True)))
    if regions is not None:
        prediction, target = (
            _region_masks(jnp.asarray(x), regions).reshape(-1, *x.shape[1:])
            for x in (prediction, target)
        )
    return SurfaceStatistics(
        *surface_device.statistics(
            prediction, target, np.asarray(spacing, np.float32), np.float32(tolerance_mm)
        )
    )


def _region_masks(labels: Labels, regions: tuple[tuple[int, ...], ...]) -> Bool[Array, "b r ..."]:
    """bool[B, R, ...]: where each array holds a label of each region."""
    return jnp.stack(
        [jnp.any(jnp.stack([labels == k for k in region]), axis=0) for region in regions], axis=1
    )


def _chosen_backend(backend: str, *arrays: Array | np.ndarray) -> str:
    if backend not in BACKENDS:
        raise BratsError(f"unknown backend '{backend}'; valid names: {', '.join(BACKENDS)}")
    traced = any(isinstance(array, jax.core.Tracer) for array in arrays)
    if forms.plain("surface") and not traced:
        return "plain"
    if backend != "auto":
        return backend
    return "host" if forms.on_cpu() and not traced else "device"
