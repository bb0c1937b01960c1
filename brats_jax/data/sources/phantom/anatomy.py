"""The anatomy of a phantom head, and the share of each tissue in every voxel."""

import dataclasses

import numpy as np
from scipy import ndimage

from brats_jax.data.sources.phantom.grid import COARSE_MM, PhantomGrid, Voxels, ramp, random_stream

# The anterior-posterior axis of an average head in the field of view.
_MIDLINE_MM = (119.5, 128.0)


@dataclasses.dataclass(frozen=True)
class Head:
    """Coarse fields of one head; distances in mm, positive inside a structure.

    Attributes:
      depth: depth below the surface of the brain.
      sheets: sulci, fissures and the gap between the hemispheres: for each the signed distance,
        and a penalty that grows beyond its end.
      midline: signed distance to the plane between the hemispheres.
      ventricle, nuclei, pallidum, cerebellum, brainstem: depth in these structures.
      folia: phase of the folds of the cerebellum, in mm.
      vessel: signed distance to a second family of sheets; vessels are where it crosses the sulci.
      choroid: depth in the choroid plexus.
    """

    depth: np.ndarray
    sheets: tuple[tuple[np.ndarray, np.ndarray], ...]
    midline: np.ndarray
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
    """Approximate depth in an ellipsoid, positive inside."""
    squares = sum(((p - c) / r) ** 2 for p, c, r in zip(point, centre, radii, strict=True))
    return (1 - np.sqrt(squares)) * float(np.prod(radii) ** (1 / 3))


def _tube(
    point: tuple[np.ndarray, ...],
    start: tuple[float, float, float, float],
    end: tuple[float, float, float, float],
) -> np.ndarray:
    """Depth in a tapering tube between two (x, y, z, radius)."""
    a = start[:3]
    along = [q - p for p, q in zip(a, end[:3], strict=True)]
    t = sum((p - c) * d for p, c, d in zip(point, a, along, strict=True))
    t = np.clip(t / sum(d * d for d in along), 0, 1)
    squares = sum((p - c - t * d) ** 2 for p, c, d in zip(point, a, along, strict=True))
    return start[3] + t * (end[3] - start[3]) - np.sqrt(squares)


def build_head(
    grid: PhantomGrid,
    seed: int,
    index: int,
    push: tuple[tuple[float, float, float], float, float] | None = None,
) -> Head:
    """Builds the anatomy of one patient's head, displaced by a mass.

    Args:
      grid: provides the coarse grid.
      seed, index: identify the patient.
      push: the mass, as (centre (z, x, y) in mm, radius in mm, strength 0..0.4), or None.
    """
    rng = random_stream(seed, index, "head")
    z, x, y = np.meshgrid(*grid.coarse_mm, indexing="ij")
    if push is not None:  # displaced tissue was nearer to the mass
        centre, radius, strength = push
        offset = [p - float(c) for p, c in zip((z, x, y), centre, strict=True)]
        distance = np.sqrt(sum(o * o for o in offset)) + 1e-3
        shift = strength * radius * np.exp(-((distance / (1.7 * radius)) ** 2)) / distance
        shift = np.minimum(shift, 0.85)
        z, x, y = (p - shift * o for p, o in zip((z, x, y), offset, strict=True))

    size = rng.normal(0.96, 0.025)
    scale = [float(np.clip(size * rng.normal(1.0, 0.02), 0.88, 1.04)) for _ in range(3)]
    warp = [grid.noise(rng, 22.0) * 2.2 for _ in range(3)]
    tilt = [float(rng.normal(0.0, 0.025)) for _ in range(2)]
    x0 = x - float(_MIDLINE_MM[0] + rng.normal(0, 1))
    y0 = y - float(_MIDLINE_MM[1] + rng.normal(0, 2))
    X = (x0 - tilt[0] * y0 + 0.6 * warp[0]) / scale[0]
    Y = (y0 + tilt[0] * x0 + warp[1]) / scale[1]
    # Scans are aligned better at the vertex than at the cut through the brain stem.
    Z = 140 + (z - 140 + tilt[1] * y0 + float(rng.normal(0, 1.5)) + warp[2]) / scale[2]
    A = np.abs(X)
    mirrored = (A, Y, Z)

    # The lobes: narrower in front than at two thirds of the length, flat at the bottom.
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
    notch = 4.0 * np.exp(-((A / 4) ** 2))
    depth = np.maximum(hemisphere - notch, lower) + 0.9 * grid.noise(rng, 4.0)

    # Sulci: the zero level of a band-limited field that varies along the surface more than with
    # depth. Both hemispheres use the same field, each with its own warp.
    lattice = rng.standard_normal((64, 64, 64), dtype=np.float32)
    fold_mm = float(rng.uniform(3.0, 3.6)) / 2.5
    pattern = ndimage.gaussian_filter(lattice, fold_mm, mode="wrap") * fold_mm**1.5
    pattern -= ndimage.gaussian_filter(pattern, 2.2 * fold_mm, mode="wrap")
    drift = [grid.noise(rng, 14.0) * 5.0 + grid.noise(rng, 5.0) * 1.2 for _ in range(3)]
    u = ((A - 22) / 46, Y / 86, (Z - 60) / 70)
    radial = np.sqrt(sum(c * c for c in u)) + 0.05
    stretch = 68.0 * radial**-0.5 / 2.5
    where = [c * stretch + 32 + d / 2.5 for c, d in zip(u, drift, strict=True)]
    fold = ndimage.map_coordinates(pattern, where, order=1, mode="grid-wrap")
    slope = np.sqrt(sum(g * g for g in np.gradient(fold, COARSE_MM)))
    fold = np.clip(fold / (slope + 0.15 * slope.mean()), -12, 12)
    # Sulci end at the central white matter, also those of the medial surface.
    reach = 17 + 5 * grid.noise(rng, 10.0)
    deep = _ellipsoid(mirrored, (16, 6, 70), (24, 50, 24))
    fold_penalty = 0.7 * np.maximum(np.minimum(depth, A + 3) - reach, 0)
    fold_penalty += 0.5 * np.maximum(deep, 0)
    fold_penalty += np.where(lower > hemisphere, 9.0, 0.0)

    # The Sylvian fissure rises backwards and ends at the insula; the tentorium separates cerebrum
    # and cerebellum.
    opercula = np.maximum(np.abs(Y + 2) - 30, 0)
    sylvian = Z - 57 - 0.3 * (Y + 10)
    sylvian_penalty = 0.7 * (opercula + np.maximum(41 - A, 0))
    insula = A - 39 + 0.006 * (Y + 5) ** 2
    insula_penalty = 0.7 * (np.maximum(np.abs(Y + 4) - 18, 0) + np.maximum(np.abs(Z - 63) - 9, 0))
    tentorium = cerebrum - lower
    tentorium_penalty = 0.5 * np.maximum(30 - Y, 0) + np.maximum(-lower, 0)
    wobble = 1.2 * grid.noise(rng, 5.0)

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
    third = _ellipsoid(mirrored, (0, 3, 62), (2.4 * girth, 13, 11))
    fourth = _ellipsoid(mirrored, (0, 29, 34), (7, 5, 10))
    cistern = np.maximum(
        _ellipsoid(mirrored, (0, -16, 43), (8, 6, 5)),
        _ellipsoid((A, Y - 0.35 * A, Z), (0, 29, 60), (8, 2.5, 7)),
    )
    cistern += 1.0 * grid.noise(rng, 4.0)
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
        sheets=(
            (fold, fold_penalty),
            (0.8 * sylvian + wobble, sylvian_penalty),
            (insula + 1.5 * wobble, insula_penalty + 0.4),
            (0.8 * tentorium, tentorium_penalty),
            (1.3 * X + wobble, midline_penalty),
        ),
        midline=X + 0.8 * wobble,
        ventricle=ventricle,
        nuclei=nuclei,
        pallidum=pallidum,
        cerebellum=np.where(lower == cerebellum, cerebellum - np.maximum(hemisphere, 0), -5.0),
        brainstem=brainstem,
        folia=folia,
        vessel=5 * grid.noise(rng, 5.0),
        choroid=choroid,
    )


def tissue_fractions(head: Head, voxels: Voxels, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Share of each tissue in every voxel, float32[voxels] by name, summing to 1."""
    soft = 0.35 + 0.35 * max(voxels.grid.spacing_mm)  # half the width of an edge in mm
    atrophy = float(rng.uniform(0.0, 0.7))
    depth = voxels.read(head.depth)
    sheet = np.full_like(depth, np.inf)
    for signed, penalty in head.sheets:
        np.minimum(sheet, np.abs(voxels.read(signed)) + voxels.read(penalty), out=sheet)
    # A negative gap: the walls of the sulcus touch.
    gap = atrophy - 0.25 + 0.55 * voxels.noise(rng, 6.0)
    rind = 0.6 * atrophy + 0.9 * voxels.noise(rng, 6.0)
    distance = np.minimum(sheet - gap, depth - rind)
    csf = ramp(-distance, soft)
    grey = ramp(float(rng.uniform(3.0, 3.8)) - distance, soft + 0.3)
    stem = ramp(voxels.read(head.brainstem), 2.0)
    grey *= 1 - stem

    # Folia are thinner than a voxel: mostly grey matter, with some white matter and CSF.
    cerebellum = voxels.read(head.cerebellum)
    in_cerebellum = ramp(cerebellum, 1.0)
    leaf = np.abs(np.mod(voxels.read(head.folia), 4.4) - 2.2)
    bark = ramp(11 + 4 * voxels.noise(rng, 5.0) - cerebellum, 3.0) * in_cerebellum
    grey = np.maximum(grey * (1 - in_cerebellum), bark * (0.55 + 0.4 * ramp(1.4 - leaf, soft)))
    csf = np.maximum(csf, 0.22 * bark * ramp(0.5 - leaf, soft))

    ventricle = voxels.read(head.ventricle)
    in_ventricle = ramp(ventricle, soft)
    csf = np.maximum(csf, in_ventricle)
    # Vessels are in the sulci, where two families of sheets cross; sinuses along the midline.
    vessel = ramp(1.0 - np.hypot(sheet, voxels.read(head.vessel)), 0.7) * ramp(20 - depth, 4)
    sinus = ramp(1.8 - np.hypot(voxels.read(head.midline), depth - 2.0), 0.8) * ramp(4 - depth, 1)
    vessel = np.maximum(vessel, 0.8 * sinus)
    vessel = np.maximum(vessel, 0.7 * in_ventricle * ramp(voxels.read(head.choroid), 1.0))
    vessel = np.minimum(vessel, csf + 0.2)

    left = 1 - csf
    nuclei = left * ramp(voxels.read(head.nuclei), 1.0)
    pallidum = nuclei * ramp(voxels.read(head.pallidum), 1.0)
    left = left - nuclei
    grey *= left
    stem *= left - grey
    white = left - grey - stem
    # White matter around the ventricles resembles oedema slightly in most adults.
    cap = white * ramp(ventricle + 3.0, 2.5)
    # Fluid of ventricles and cisterns is suppressed in FLAIR; between the folds it is less so.
    ventricular = csf * in_ventricle
    shares = {
        "csf": csf - ventricular,
        "ventricle": ventricular,
        "grey": grey,
        "nuclei": nuclei - pallidum,
        "pallidum": pallidum,
        "stem": stem,
        "white": white - cap,
        "cap": cap,
    }
    solid = 1 - vessel
    for share in shares.values():
        share *= solid
    return shares | {"vessel": vessel}
