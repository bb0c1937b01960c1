"""The grids of a phantom: smooth fields at 2 mm, interpolated to the voxels of any shape.

Sheets (sulci, fissures, folia) are the zero levels of signed fields, so that they stay sharp when
the coarse fields are interpolated. Coordinates are those of the arrays in mm: x runs to Left, y to
Posterior, z to Superior.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

FIELD_OF_VIEW_MM = (155.0, 240.0, 240.0)  # slices, x, y: as in BraTS
# The part of the field of view that a head may occupy; nothing is computed outside.
BOX_MM = ((0.0, 148.0), (44.0, 196.0), (34.0, 224.0))
COARSE_MM = 2.0


def random_stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A generator for each purpose: an added draw in one place changes no other."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


class PhantomGrid:
    """The voxels of a box around the head, and the coarse grid.

    Args:
      shape: (slices, H, W) of the whole volume, which always covers `FIELD_OF_VIEW_MM`.
      limits: (low, high) of the box in mm along each axis; the coarse grid always covers `BOX_MM`.
    """

    def __init__(self, shape: tuple[int, int, int], limits: Sequence[tuple[float, float]] = BOX_MM):
        self.spacing_mm = tuple(f / n for f, n in zip(FIELD_OF_VIEW_MM, shape, strict=True))
        self.box = tuple(
            slice(max(math.floor(low / s), 0), min(math.ceil(high / s), n))
            for (low, high), s, n in zip(limits, self.spacing_mm, shape, strict=True)
        )
        self.fine_mm = tuple(
            (np.arange(b.start, b.stop, dtype=np.float32) + 0.5) * s
            for b, s in zip(self.box, self.spacing_mm, strict=True)
        )
        self.coarse_mm = tuple(
            np.arange(low + COARSE_MM / 2, high, COARSE_MM, dtype=np.float32)
            for low, high in BOX_MM
        )
        self._matrices = [
            _interpolation(c, f) for c, f in zip(self.coarse_mm, self.fine_mm, strict=True)
        ]

    def limits_of(self, coarse: np.ndarray) -> list[tuple[float, float]]:
        """The limits of the positive values of a coarse field, with a margin."""
        return [
            (float(axis[where.min()]) - 2 * COARSE_MM, float(axis[where.max()]) + 2 * COARSE_MM)
            for axis, where in zip(self.coarse_mm, np.nonzero(coarse > 0), strict=True)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.fine_mm)

    def refine(self, coarse: np.ndarray) -> np.ndarray:
        """Interpolates a field of the coarse grid to the voxels of the box."""
        return _apply(self._matrices, coarse)

    def noise(self, rng: np.random.Generator, scale_mm: float, fine: bool = False) -> np.ndarray:
        """A Gaussian random field of unit variance, correlation exp(-r^2 / (4 scale_mm^2)).

        Args:
          scale_mm: at least `COARSE_MM` for a coarse field.
          fine: on the voxels of the box instead of the coarse grid.
        """
        lattice = [
            np.arange(low - 2 * scale_mm, high + 3 * scale_mm, scale_mm, dtype=np.float32)
            for low, high in BOX_MM
        ]
        white = rng.standard_normal([len(axis) for axis in lattice], dtype=np.float32)
        field = ndimage.gaussian_filter(white, 1.0, truncate=3.0)
        # White noise filtered by a Gaussian of one lattice step has variance 1 / (2 sqrt(pi))^3.
        field *= (2 * math.sqrt(math.pi)) ** 1.5
        axes = self.fine_mm if fine else self.coarse_mm
        return _apply([_interpolation(c, f) for c, f in zip(lattice, axes, strict=True)], field)


class Voxels:
    """The voxels of the brain as a list: most computations need only these.

    Args:
      grid: the grid they belong to.
      inside: bool[grid.shape].
    """

    def __init__(self, grid: PhantomGrid, inside: np.ndarray):
        self.grid = grid
        self.inside = inside
        self._flat = np.flatnonzero(inside)

    def read(self, coarse: np.ndarray) -> np.ndarray:
        """float32[voxels]: a coarse field at the voxels."""
        return self.grid.refine(coarse).ravel()[self._flat]

    def noise(self, rng: np.random.Generator, scale_mm: float) -> np.ndarray:
        """float32[voxels]: `PhantomGrid.noise` at the voxels."""
        return self.grid.noise(rng, scale_mm, fine=True).ravel()[self._flat]

    def gather(self, volume: np.ndarray) -> np.ndarray:
        """The values of a volume of the box at the voxels."""
        return volume.ravel()[self._flat]

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """The volume of the box with `values` at the voxels and 0 elsewhere."""
        volume = np.zeros(self.grid.shape, values.dtype)
        volume.ravel()[self._flat] = values
        return volume


def _interpolation(source: np.ndarray, target: np.ndarray) -> sparse.csr_array:
    """Catmull-Rom interpolation from one regular axis to another, as a matrix."""
    position = np.clip((target - source[0]) / (source[1] - source[0]), 0, len(source) - 1)
    first = np.floor(position).astype(int)
    t = (position - first).astype(np.float32)
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    columns = [np.clip(first + offset, 0, len(source) - 1) for offset in (-1, 0, 1, 2)]
    rows = np.tile(np.arange(len(target)), 4)
    entries = (np.concatenate(weights), (rows, np.concatenate(columns)))
    return sparse.csr_array(entries, shape=(len(target), len(source)))


def _apply(matrices: list[sparse.csr_array], field: np.ndarray) -> np.ndarray:
    """Interpolates along all three axes; sparse products use one thread, unlike BLAS."""
    along_z, along_x, along_y = matrices
    slices, width, height = field.shape
    field = along_y @ np.ascontiguousarray(field.reshape(-1, height).T)
    field = np.ascontiguousarray(field.reshape(-1, slices, width).transpose(1, 2, 0))
    field = np.stack([along_x @ plane for plane in field])
    return (along_z @ field.reshape(slices, -1)).reshape(-1, *field.shape[1:])


def ramp(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """0 below -width, 1 above +width, linear between: the fraction of a voxel beyond an edge."""
    return np.clip(distance * (0.5 / width) + 0.5, 0.0, 1.0)
