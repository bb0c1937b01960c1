"""Where the tissues of a phantom head lie: smooth fields on a 2 mm grid, thresholded finely.

Sheets (sulci, fissures, folia) are the zero levels of signed fields, so that they stay sharp when
the coarse fields are interpolated to the voxels. The frame is the array frame in mm: x towards
Left, y towards Posterior, z towards Superior; `X`, `Y`, `Z` are the same with the origin on the
midline, after each patient's own warp.
"""

import dataclasses
import math
import zlib

import numpy as np
from scipy import ndimage, sparse

FIELD_OF_VIEW_MM = (155.0, 240.0, 240.0)  # slices, x, y: what BraTS volumes cover
# The part of the field of view a head may fill; nothing is computed outside.
BOX_MM = ((0.0, 150.0), (40.0, 200.0), (30.0, 228.0))
COARSE_MM = 2.0
_MIDLINE_MM = (119.5, 128.0)


def random_stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose: adding a draw in one place moves no other."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


class Grid:
    """The voxels of the box around the head, and the coarse grid below them.

    Args:
      shape: (slices, H, W) of the whole volume, which always covers `FIELD_OF_VIEW_MM`.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.spacing_mm = tuple(f / n for f, n in zip(FIELD_OF_VIEW_MM, shape, strict=True))
        self.box = tuple(
            slice(int(np.floor(low / s)), min(int(np.ceil(high / s)), n))
            for (low, high), s, n in zip(BOX_MM, self.spacing_mm, shape, strict=True)
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

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.fine_mm)

    def refine(self, coarse: np.ndarray) -> np.ndarray:
        """Interpolates a field of the coarse grid to the voxels of the box."""
        return _apply(self._matrices, coarse)

    def noise(self, rng: np.random.Generator, scale_mm: float, fine: bool = False) -> np.ndarray:
        """A Gaussian random field of unit variance, correlation exp(-r^2 / (4 scale_mm^2))."""
        lattice = tuple(
            np.arange(low - 2 * scale_mm, high + 3 * scale_mm, scale_mm, dtype=np.float32)
            for low, high in BOX_MM
        )
        white = rng.standard_normal([len(axis) for axis in lattice], dtype=np.float32)
        field = ndimage.gaussian_filter(white, 1.0, truncate=3.0)
        # Variance of white noise after a Gaussian of one lattice step: 1 / (2 sqrt(pi))^3.
        field *= (2 * math.sqrt(math.pi)) ** 1.5
        axes = self.fine_mm if fine else self.coarse_mm
        return _apply([_interpolation(c, f) for c, f in zip(lattice, axes, strict=True)], field)


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
    """Interpolates along all three axes; sparse products stay on one thread, unlike BLAS."""
    along_z, along_x, along_y = matrices
    slices, width, height = field.shape
    field = along_y @ np.ascontiguousarray(field.reshape(-1, height).T)
    field = np.ascontiguousarray(field.reshape(-1, slices, width).transpose(1, 2, 0))
    field = np.stack([along_x @ plane for plane in field])
    return (along_z @ field.reshape(slices, -1)).reshape(-1, *field.shape[1:])


def ramp(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """0 below -width, 1 above +width, linear between: the fraction of a voxel beyond an edge."""
    return np.clip(distance * (0.5 / width) + 0.5, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Head:
    """Coarse fields of one head; distances in mm, positive inside, `_penalty` where a sheet ends.

    Attributes:
      depth: below the surface of the brain. fold, lobe, midline: signed distances to the sulci, to
        the fissures between lobes, to the plane between the hemispheres.
      ventricle, nuclei, pallidum, cerebellum, brainstem: into these structures.
      folia: phase of the folds of the cerebellum, in mm.
      vessel: signed distance to a second family of sheets; vessels run where it meets the sulci.
      choroid: into the choroid plexus.
      X, Y, Z: coordinates in the head.
    """

    depth: np.ndarray
    fold: np.ndarray
    fold_penalty: np.ndarray
    lobe: np.ndarray
    lobe_penalty: np.ndarray
    midline: np.ndarray
    midline_penalty: np.ndarray
    ventricle: np.ndarray
    nuclei: np.ndarray
    pallidum: np.ndarray
    cerebellum: np.ndarray
    brainstem: np.ndarray
    folia: np.ndarray
    vessel: np.ndarray
    choroid: np.ndarray


def _ellipsoid(
    point: tuple[np.ndarray, ...], centre: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    """Roughly the distance into an ellipsoid, positive inside."""
    squares = sum(((p - c) / r) ** 2 for p, c, r in zip(point, centre, radii, strict=True))
    return (1 - np.sqrt(squares)) * float(np.prod(radii) ** (1 / 3))


def _tube(
    point: tuple[np.ndarray, ...],
    start: tuple[float, float, float, float],
    end: tuple[float, float, float, float],
) -> np.ndarray:
    """Distance into a tapering tube between two (x, y, z, radius)."""
    a = start[:3]
    along = [q - p for p, q in zip(a, end[:3], strict=True)]
    t = sum((p - c) * d for p, c, d in zip(point, a, along, strict=True))
    t = np.clip(t / sum(d * d for d in along), 0, 1)
    squares = sum((p - c - t * d) ** 2 for p, c, d in zip(point, a, along, strict=True))
    return start[3] + t * (end[3] - start[3]) - np.sqrt(squares)


def build_head(
    grid: Grid, seed: int, index: int, push: tuple[np.ndarray, float, float] | None
) -> Head:
    """Lays out one patient's brain; `push` = (centre_mm, radius_mm, strength) of a mass."""
    rng = random_stream(seed, index, "head")
    z, x, y = np.meshgrid(*grid.coarse_mm, indexing="ij")
    if push is not None:  # tissue gives way: what is here was nearer to the mass
        centre, radius, strength = push
        offset = [p - float(c) for p, c in zip((z, x, y), centre, strict=True)]
        distance = np.sqrt(sum(o * o for o in offset)) + 1e-3
        shift = strength * radius * np.exp(-((distance / (1.7 * radius)) ** 2)) / distance
        shift = np.minimum(shift, 0.85)
        z, x, y = (p - shift * o for p, o in zip((z, x, y), offset, strict=True))

    size = rng.normal(1.0, 0.03)
    scale = [float(np.clip(size * rng.normal(1.0, 0.02), 0.9, 1.07)) for _ in range(3)]
    warp = [grid.noise(rng, 22.0) * 2.2 for _ in range(3)]
    tilt = [float(rng.normal(0.0, 0.025)) for _ in range(2)]
    x0 = x - float(_MIDLINE_MM[0] + rng.normal(0, 1))
    y0 = y - float(_MIDLINE_MM[1] + rng.normal(0, 2))
    X = (x0 - tilt[0] * y0 + 0.6 * warp[0]) / scale[0]
    Y = (y0 + tilt[0] * x0 + warp[1]) / scale[1]
    # Scans are placed alike at the vertex more than at the cut through the brain stem.
    Z = 140 + (z - 140 + tilt[1] * y0 + float(rng.normal(0, 1.5)) + warp[2]) / scale[2]
    A = np.abs(X)
    mirrored = (A, Y, Z)

    # The lobes. Narrower in front than at two thirds of the length, flat below.
    dz = Z - 72
    width = 67 - 0.0016 * (Y - 15) ** 2
    rho = (
        (A / width) ** 2.3
        + (np.abs(Y) / 86) ** 2.3
        + (np.abs(dz) / np.where(dz > 0, 67, 34)) ** 2.3
    ) ** (1 / 2.3)
    cerebrum = (1 - rho) * 62
    temporal = _ellipsoid((A, Y, Z + 0.15 * Y), (43, -14, 44), (24, 43, 25))
    cerebellum = np.maximum(
        _ellipsoid(mirrored, (24, 50, 30), (31, 31, 26)),
        _ellipsoid(mirrored, (0, 50, 32), (18, 25, 22)),
    )
    brainstem = np.maximum(
        _tube(mirrored, (0, 24, -10, 9), (0, 10, 36, 15)),
        _tube(mirrored, (0, 10, 36, 17), (0, 10, 62, 14)),
    )
    hemisphere = np.maximum(cerebrum, temporal)
    lower = np.maximum(cerebellum, brainstem)
    depth = np.maximum(hemisphere, lower) + 0.9 * grid.noise(rng, 4.0)

    # Sulci: the zero level of a band-limited field that changes along the surface more than with
    # depth. Both hemispheres look the same field up, each through a warp of its own.
    lattice = rng.standard_normal((64, 64, 64), dtype=np.float32)
    fold_mm = float(rng.uniform(3.0, 3.6)) / 2.5
    pattern = ndimage.gaussian_filter(lattice, fold_mm, mode="wrap") * fold_mm**1.5
    pattern -= ndimage.gaussian_filter(pattern, 2.2 * fold_mm, mode="wrap")
    drift = [grid.noise(rng, 14.0) * 5.0 for _ in range(3)]
    u = ((A - 22) / 46, Y / 86, (Z - 60) / 70)
    radial = np.sqrt(sum(c * c for c in u)) + 0.05
    stretch = 68.0 * radial**-0.7 / 2.5
    where = [c * stretch + 32 + d / 2.5 for c, d in zip(u, drift, strict=True)]
    fold = ndimage.map_coordinates(pattern, where, order=1, mode="grid-wrap")
    slope = np.sqrt(sum(g * g for g in np.gradient(fold, COARSE_MM)))
    fold = np.clip(fold / (slope + 0.15 * slope.mean()), -12, 12)
    # Sulci end where the white matter of the centre begins, also those of the medial surface.
    reach = 17 + 5 * grid.noise(rng, 10.0)
    centre = _ellipsoid(mirrored, (16, 6, 70), (24, 50, 24))
    fold_penalty = 0.7 * np.maximum(np.minimum(depth, A + 3) - reach, 0)
    fold_penalty += 0.5 * np.maximum(centre, 0)
    fold_penalty += np.where(lower > hemisphere, 9.0, 0.0)

    # Fissures where two lobes meet: Sylvian, and the tentorium over the cerebellum.
    second = np.where(lower > temporal, lower, temporal)
    lobe = np.where(lower > temporal, cerebrum - lower, cerebrum - temporal)
    sylvian = np.maximum(0, 21 - A) + np.maximum(0, -second) + np.maximum(0, Y - 28) * 0.5
    tentorium = np.maximum(0, 30 - Y) * 0.5 + np.maximum(0, -second)
    lobe_penalty = np.where(lower > temporal, tentorium, sylvian + 0.5 * np.maximum(depth - 22, 0))

    # Between the hemispheres, except where callosum, diencephalon and stem bridge the gap.
    bridge = np.maximum(
        _ellipsoid((np.zeros_like(A), Y, Z), (0, 2, 64), (10, 45, 27)), np.maximum(lower, 0)
    )
    midline_penalty = 0.8 * np.maximum(bridge, 0)

    girth = float(np.clip(rng.lognormal(0, 0.3), 0.55, 1.9))
    horns = [
        ((4, -20, 80, 3.5), (14, -42, 72, 3.0)),
        ((4, -20, 80, 3.5), (9, 8, 88, 4.0)),
        ((9, 8, 88, 4.0), (25, 34, 76, 6.0)),
        ((25, 34, 76, 5.5), (24, 54, 70, 1.5)),
        ((25, 34, 76, 5.0), (33, 12, 50, 1.5)),
    ]
    sides = girth * (1 + 0.25 * float(rng.uniform(-1, 1)) * np.tanh(X / 10))
    ventricle = np.max([_tube(mirrored, a, b) for a, b in horns], axis=0) + 3.0 * (sides - 1)
    ventricle = np.minimum(ventricle + 0.6 * grid.noise(rng, 5.0), A - 0.8)
    median = (np.zeros_like(A), Y, Z)
    third = np.minimum(1.6 * girth - A, _ellipsoid(median, (0, 3, 62), (9, 13, 10)))
    fourth = _ellipsoid(mirrored, (0, 29, 34), (7, 5, 10))
    cistern = np.maximum(
        _ellipsoid(mirrored, (0, -16, 43), (8, 6, 5)), _ellipsoid(mirrored, (0, 30, 60), (9, 3, 8))
    )
    cistern += 0.8 * grid.noise(rng, 4.0)
    ventricle = np.max([ventricle, third, fourth, cistern], axis=0)

    nuclei = np.max(
        [
            _ellipsoid((A - 0.10 * (Y + 24), Y, Z), (14, -24, 74), (5, 15, 10)),
            _ellipsoid((A - 0.25 * (Y + 8), Y, Z), (25, -8, 64), (7, 18, 12)),
            _ellipsoid((A - 0.3 * (Y - 10), Y, Z), (11, 11, 69), (9, 15, 10)),
        ],
        axis=0,
    ) + 0.7 * grid.noise(rng, 5.0)
    pallidum = _ellipsoid((A - 0.25 * (Y + 5), Y, Z), (19, -5, 62), (5, 9, 7))

    folia = np.sqrt(A**2 * 0.15 + (Y - 20) ** 2 + (Z - 34) ** 2) + 2.0 * grid.noise(rng, 5.0)
    choroid = _ellipsoid(mirrored, (24, 34, 76), (4, 7, 4)) + 0.8 * grid.noise(rng, 4.0)
    return Head(
        depth=depth,
        fold=fold,
        fold_penalty=fold_penalty,
        lobe=lobe,
        lobe_penalty=lobe_penalty,
        midline=X + 0.7 * grid.noise(rng, 6.0),
        midline_penalty=midline_penalty,
        ventricle=ventricle,
        nuclei=nuclei,
        pallidum=pallidum,
        cerebellum=np.where(lower == cerebellum, cerebellum - np.maximum(hemisphere, 0), -5.0),
        brainstem=brainstem,
        folia=folia,
        vessel=5 * grid.noise(rng, 5.0),
        choroid=choroid,
    )
