"""The tumour of a phantom: foci, an enhancing rim of uneven thickness, an oedema halo.

Fields are signed distances in mm on the coarse grid of `grid.PhantomGrid`. The labels of the
voxels depend on the tissue too, because oedema spreads in white matter.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from brats_jax.data.sources.phantom.anatomy import Head
from brats_jax.data.sources.phantom.grid import PhantomGrid, Voxels, ramp, random_stream

# Of eight consecutive patients one has no ET, one is nearly solid, one has several foci.
_KINDS = ("no_et", "solid", "multifocal", "ring", "ring", "ring", "ring", "ring")


_SPECK_MM3 = 150.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The parameters of one patient's tumour.

    Attributes:
      kind: one of 'no_et', 'solid', 'multifocal', 'ring'.
      foci: (centre (z, x, y) in mm, mean radius of the core in mm) per focus, largest first.
      rim_mm: mean thickness of the enhancing rim.
      halo_mm: mean width of the oedema.
      side: -1 for the patient's right, 1 for the left.
    """

    kind: str
    foci: tuple[tuple[tuple[float, float, float], float], ...]
    rim_mm: float
    halo_mm: float
    side: int


@dataclasses.dataclass(frozen=True)
class PhantomLesion:
    """Coarse fields: depth in the core, thickness of its rim, reach of oedema in white matter."""

    core: np.ndarray
    rim: np.ndarray
    halo: np.ndarray


def plan_tumour(seed: int, index: int) -> Plan:
    """Draws kind, size and place of one patient's tumour."""
    block = random_stream(seed, index // len(_KINDS), "kinds").permutation(len(_KINDS))
    kind = _KINDS[block[index % len(_KINDS)]]
    rng = random_stream(seed, index, "tumour plan")
    median_ml = {"no_et": 50.0, "solid": 18.0, "multifocal": 22.0, "ring": 32.0}[kind]
    volume_ml = np.clip(median_ml * rng.lognormal(0, 0.75), 2.5, 150)
    radius = float((volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))
    side = int(rng.choice((-1, 1)))
    # In the cerebrum between its centre and the cortex; a large mass reaches the surface.
    angle = rng.uniform(-np.pi, np.pi)
    out = rng.uniform(0.3, 0.72)
    centre = (
        float(np.clip(78 + rng.normal(0, 16), 50, 112)),
        float(119.5 + side * np.clip(12 + 46 * out * abs(np.cos(angle)), 14, 48)),
        float(128 + 78 * out * np.sin(angle)),
    )
    foci = [(centre, radius)]
    for _ in range(int(rng.integers(1, 3)) if kind == "multifocal" else int(rng.random() < 0.15)):
        step = rng.normal(0, 1, 3)
        step *= (radius * rng.uniform(1.1, 1.7) + 4) / np.linalg.norm(step)
        place = np.asarray(centre) + step * (0.7, 1, 1)
        place[1] = 119.5 + side * max(side * (place[1] - 119.5), 12)
        foci.append((tuple(place), radius * float(rng.uniform(0.3, 0.6))))
    rim = {
        "no_et": -1.0,
        "solid": radius * rng.uniform(0.45, 0.65),
        "multifocal": radius * rng.uniform(0.2, 0.5),
        "ring": np.clip(radius * rng.uniform(0.12, 0.45), 1.5, 10),
    }[kind]
    halo = np.clip(11 * rng.lognormal(0, 0.45), 2.5, 24) * (0.6 if kind == "no_et" else 1.0)
    return Plan(kind, tuple(foci), float(rim), float(halo), side)


def build_lesion(grid: PhantomGrid, seed: int, index: int, plan: Plan) -> PhantomLesion:
    """The fields of a plan, with irregular outlines."""
    rng = random_stream(seed, index, "tumour shape")
    z, x, y = np.meshgrid(*grid.coarse_mm, indexing="ij", sparse=True)
    core: np.ndarray = np.full([len(axis) for axis in grid.coarse_mm], -np.inf, np.float32)
    for centre, radius in plan.foci:
        stretch = [math.exp(s) for s in rng.normal(0, 0.15, 3)]
        rho = np.sqrt(
            sum(((p - c) / s) ** 2 for p, c, s in zip((z, x, y), centre, stretch, strict=True))
        )
        core = np.maximum(core, radius - rho)
    radius = plan.foci[0][1]
    coarse_shape, fine_shape = grid.noise(rng, 8.0), grid.noise(rng, 3.5)
    core = core + min(0.28 * radius, 6.0) * coarse_shape + min(0.10 * radius, 1.6) * fine_shape

    if plan.kind == "no_et":
        rim = np.full_like(core, -1e3)
    else:
        rim = plan.rim_mm * (1 + 0.5 * grid.noise(rng, 7.0) + 0.2 * grid.noise(rng, 3.0))
    halo: np.ndarray = plan.halo_mm * (
        1 + 0.45 * grid.noise(rng, 11.0) + 0.15 * grid.noise(rng, 4.0)
    )
    halo = halo + np.minimum(core, 0)
    return PhantomLesion(core=core, rim=rim, halo=halo)


def tumour_fractions(
    lesion: PhantomLesion,
    plan: Plan,
    head: Head,
    tissue: Mapping[str, np.ndarray],
    voxels: Voxels,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels of the voxels, and the shares of 'necrosis', 'enhancing' and 'oedema' in each.

    Args:
      lesion, plan: the tumour.
      head, tissue, voxels: the anatomy; `tissue` from `anatomy.tissue_fractions`.
      rng: for the softness of the oedema's edge.

    Returns:
      uint8[voxels] labels as in `modalities.CLASSES`, and float32[voxels] by name.
    """
    core, rim, halo = (voxels.read(f) for f in (lesion.core, lesion.rim, lesion.halo))
    midline = plan.side * voxels.read(head.midline)
    ventricle = voxels.read(head.ventricle)
    # Oedema spreads in white matter, less in grey matter, and rarely crosses the midline.
    halo -= 5.0 * (tissue["grey"] + 0.6 * (tissue["nuclei"] + tissue["pallidum"]))
    fluid = tissue["csf"] + tissue["ventricle"] + tissue["vessel"]
    halo -= 7.0 * np.minimum(fluid, 1)
    halo -= 1.2 * np.maximum(-midline - 1, 0)
    # The core enters a ventricle by a few mm at most, and displaces the falx a little.
    core = np.minimum(core, np.maximum(-ventricle, core - 6.0) + 1.0)
    core = np.minimum(core, 0.5 * midline + 3.0)

    soft = 0.5 + 0.4 * max(voxels.grid.spacing_mm)
    in_core = ramp(core, soft)
    enhancing = in_core * ramp(rim - core, soft) * ramp(rim - 0.2, 0.6)
    necrosis = in_core - enhancing
    edge = float(rng.uniform(0.8, 2.2))
    oedema = (1 - in_core) * ramp(halo, edge) * ramp(-ventricle, soft)

    label = np.zeros(core.shape, np.uint8)
    label[(halo > 0) & (ventricle < 0)] = 2
    label[in_core > 0.5] = 1
    label[(in_core > 0.5) & (enhancing > necrosis)] = 3
    # Annotators do not outline specks.
    pieces, _ = ndimage.label(voxels.scatter(label) > 0)
    speck = np.bincount(pieces.ravel()) * math.prod(voxels.grid.spacing_mm) < _SPECK_MM3
    label[speck[voxels.gather(pieces)]] = 0
    return label, {"necrosis": necrosis, "enhancing": enhancing, "oedema": oedema}
