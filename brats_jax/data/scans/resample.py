"""Resampling of a volume onto a grid of 1 mm with axes along Left, Posterior and Superior.

Not `nibabel.processing.resample_from_to`, which differs in rounding: it makes thousands of air
voxels beside the brain faintly non-zero.
"""

import numpy as np

from brats_jax.data.scans.grids import Grid

# A grid of 1 mm with LPS axes, in the scanner's RAS coordinates.
_LPS_1MM = np.diag([-1.0, -1.0, 1.0, 1.0])


def straight_grid(grid: Grid, brain: np.ndarray, in_plane: tuple[int, int] | None) -> Grid:
    """A 1 mm LPS grid over the same field of view.

    Args:
      grid: the grid of the volume, with axes roughly LPS.
      brain: bool[x, y, z] on `grid`; the centre of the new slices.
      in_plane: voxels along x and y; None for the whole field of view.

    Returns:
      The new grid. Its voxels coincide with those of an old grid of 1 mm without tilt.
    """
    corners = grid.corners_mm() @ np.linalg.inv(_LPS_1MM[:3, :3]).T  # mm along L, P, S
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil(high - low - 1e-3).astype(int) + 1
    start = low
    if in_plane is not None:
        at = np.argwhere(brain)
        middle = (at.min(axis=0) + at.max(axis=0)) / 2
        place = (grid.affine @ [*middle, 1])[:3] @ np.linalg.inv(_LPS_1MM[:3, :3]).T
        shape[:2] = in_plane
        # Shifted by whole voxels, so that a grid of 1 mm needs no interpolation.
        start[:2] += np.round(place[:2] - (np.array(in_plane) - 1) / 2 - low[:2])
    affine = _LPS_1MM.copy()
    affine[:3, 3] = _LPS_1MM[:3, :3] @ start
    return Grid(affine, (int(shape[0]), int(shape[1]), int(shape[2])))


def resample(voxels: np.ndarray, source: Grid, target: Grid, *, nearest: bool) -> np.ndarray:
    """Resamples a volume onto another grid; 0 outside the source.

    Args:
      voxels: [x, y, z] on `source`.
      source, target: the grids.
      nearest: take the nearest voxel, for labels; else interpolate linearly, which causes no
        ringing at the edge of a stripped brain.

    Returns:
      [x, y, z] on `target`, of the type of `voxels` if nearest, else float32.
    """
    if source.is_near(target, 1e-3):
        return voxels
    from scipy import ndimage  # here, because most scans need no resampling

    to_source = np.linalg.inv(source.affine) @ target.affine
    return ndimage.affine_transform(
        voxels if nearest else voxels.astype(np.float32),
        # Else rounding errors would make air beside the brain faintly non-zero.
        np.round(to_source[:3, :3], 9),
        offset=np.round(to_source[:3, 3], 6),
        output_shape=target.shape,
        order=0 if nearest else 1,
        mode="constant",
        cval=0,
    )
