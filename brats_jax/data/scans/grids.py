"""Voxel grids in space, and the axes of arrays: Left, Posterior, Superior (LPS)."""

import dataclasses
import functools

import numpy as np

# The axes of every array: x runs to the patient's Left, y to Posterior, z to Superior.
ORIENTATION = "LPS"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A voxel grid in space.

    Attributes:
      affine: float64[4, 4], voxel (x, y, z) to scanner mm.
      shape: voxels along x, y, z.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]

    def corners_mm(self) -> np.ndarray:
        """float64[8, 3]: the centres of the corner voxels."""
        ends = np.array(np.meshgrid(*([0, n - 1] for n in self.shape), indexing="ij"))
        return (self.affine @ np.vstack([ends.reshape(3, 8), np.ones(8)]))[:3].T

    def is_near(self, other: "Grid", tolerance_mm: float = 0.1) -> bool:
        """Whether both grids have the same voxels, up to a tolerance."""
        return self.shape == other.shape and bool(
            (np.abs(self.corners_mm() - other.corners_mm()) <= tolerance_mm).all()
        )


def lps_grid(affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    """The grid of an array with this affine after its axes are turned to LPS."""
    turned = to_lps(np.empty(shape, np.bool_), affine).shape
    return Grid(affine_to_lps(affine, shape), turned)


def to_lps(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Flips and permutes the axes to Left, Posterior, Superior, without resampling."""
    from nibabel import orientations

    return orientations.apply_orientation(voxels, _transform_to_lps(affine))


def from_lps(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse of `to_lps`: turns the axes to those of a file with this affine."""
    from nibabel import orientations

    back = orientations.ornt_transform(
        orientations.axcodes2ornt(ORIENTATION), orientations.io_orientation(affine)
    )
    return orientations.apply_orientation(voxels, back)


def affine_to_lps(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The affine of the array that `to_lps` returns: every voxel keeps its place in mm."""
    from nibabel import orientations

    return affine @ orientations.inv_ornt_aff(_transform_to_lps(affine), shape)


def codes_of(affine: np.ndarray) -> str:
    """The directions of the axes, e.g. 'LPS'."""
    import nibabel

    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))


def centred_affine(
    codes: str, sizes_mm: tuple[float, float, float], shape: tuple[int, ...]
) -> np.ndarray:
    """The affine of an array with these axes and voxel sizes, its centre at 0 mm."""
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        row = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, axis] = sizes_mm[axis] if code in "RAS" else -sizes_mm[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2)
    affine[3, 3] = 1
    return affine


def voxel_sizes_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Size of a voxel along its axes."""
    from nibabel import affines

    x, y, z = affines.voxel_sizes(affine).tolist()
    return x, y, z


def is_invertible(affine: np.ndarray) -> bool:
    """Whether an affine is finite and maps voxels to places one to one."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    sizes = np.sqrt(np.square(affine[:3, :3]).sum(axis=0))
    return bool(sizes.min() > 0 and abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-6)


def _transform_to_lps(affine: np.ndarray) -> np.ndarray:
    return _transform_of(tuple(np.asarray(affine, np.float64).ravel().tolist()))


@functools.lru_cache(64)  # called several times for each file of a case
def _transform_of(affine: tuple[float, ...]) -> np.ndarray:
    from nibabel import orientations

    own = orientations.io_orientation(np.reshape(affine, (4, 4)))
    return orientations.ornt_transform(own, orientations.axcodes2ornt(ORIENTATION))
