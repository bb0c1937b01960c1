"""The plane of a store's slices: axial as in the files, coronal or sagittal.

A stack of axial slices is cut again along another axis:

    axial     [z, x, y]   H to the patient's Left,  W to Posterior, slices to Superior
    coronal   [y, x, z]   H to Left,                W to Superior,  slices to Posterior
    sagittal  [x, y, z]   H to Posterior,           W to Superior,  slices to Left
"""

from collections.abc import Sequence

import numpy as np

AXIAL = "axial"
# By plane the axes of an axial stack [z, x, y], in the order of the new one.
_AXES = {AXIAL: (0, 1, 2), "coronal": (2, 1, 0), "sagittal": (1, 2, 0)}
PLANES = tuple(_AXES)
ALL_PLANES = "all"  # in place of the names of all planes of a training
_WORDS = {
    AXIAL: "LPS: H runs to the patient's Left, W to Posterior, slices to Superior",
    "coronal": "coronal: H runs to the patient's Left, W to Superior, slices to Posterior",
    "sagittal": "sagittal: H runs to the patient's Posterior, W to Superior, slices to Left",
}


def slices_along(stack: np.ndarray, plane: str) -> np.ndarray:
    """The slices of a plane of a whole volume: a view, of axial slices the array itself.

    Args:
      stack: [z, x, y, ...], axial slices.
      plane: one of `PLANES`.

    Returns:
      [slices, H, W, ...] as in the table above.
    """
    return stack if plane == AXIAL else stack.transpose(*_AXES[plane], *range(3, stack.ndim))


def to_axial(slices: np.ndarray, plane: str, first: int = 0) -> np.ndarray:
    """The axial stack [..., z, x, y, ...] of slices [..., slices, H, W, ...], as a view.

    Args:
      slices: of all of a volume.
      plane: one of `PLANES`.
      first: the axis of the slices.
    """
    if plane == AXIAL:
        return slices
    order = np.argsort(_AXES[plane]) + first
    return slices.transpose(*range(first), *order, *range(first + 3, slices.ndim))


def spacing_along(spacing_mm: Sequence[float], plane: str) -> tuple[float, float, float]:
    """Voxel size along H, W and slices of a plane, of the size along x, y and z."""
    x, y, z = spacing_mm
    slices, height, width = ((z, x, y)[axis] for axis in _AXES[plane])
    return float(height), float(width), float(slices)


def is_isotropic(spacing_mm: Sequence[float]) -> bool:
    """Whether the voxels are cubes, to one per cent."""
    return max(spacing_mm) <= 1.01 * min(spacing_mm)


def axes_in_words(plane: str) -> str:
    """The axes of the slices, in words."""
    return _WORDS[plane]
